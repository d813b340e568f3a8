import torch
from torch import nn

from clapp.training.optimisers.adam import Adam


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 1))


def test_steps_are_those_of_torch() -> None:
    ours, theirs = network(), network()
    optimiser, peer = Adam(ours.parameters()), torch.optim.Adam(theirs.parameters())
    x = torch.rand(4, 3, 9, 9)
    for step in range(30):
        rate = 0.05 / (step + 1)
        optimiser.zero_grad()
        peer.zero_grad()
        for part in x.split(2):  # gradients add up
            ours(part).square().mean().backward()
            theirs(part).square().mean().backward()
        optimiser.step(rate)
        peer.param_groups[0]["lr"] = rate
        peer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_release_leaves_ordinary_parameters() -> None:
    net = network()
    values = [p.clone() for p in net.parameters()]
    optimiser = Adam(net.parameters())
    assert len({p.untyped_storage().data_ptr() for p in net.parameters()}) == 1
    optimiser.release()
    assert len({p.untyped_storage().data_ptr() for p in net.parameters()}) == len(values)
    for p, value in zip(net.parameters(), values, strict=True):
        assert torch.equal(p, value)
        assert p.grad is None
        assert p.requires_grad
