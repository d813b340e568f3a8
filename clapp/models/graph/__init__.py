"""Networks as plain lists of steps, without torch, for exports, costs and targets."""
