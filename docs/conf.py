"""The documentation site, for Sphinx: `make docs`.

The pages are the Markdown files beside this one. Those below `reference/` are written by
`generate.py` from the models, registries and commands of the package whenever the site is built,
and are in no commit.
"""

import re
import sys
from pathlib import Path
from typing import Any

from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import generate  # noqa: E402

import clapp  # noqa: E402

project = "CLAPP"
author = "The authors of CLAPP"
version = release = clapp.__version__
html_title = f"CLAPP {release}"
html_theme = "furo"
html_show_copyright = False
html_copy_source = False

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["images"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
nitpicky = False
smartquotes = False
default_role = "code"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
_MODULE = re.compile(r"~?(?:[A-Za-z_]\w*\.)+(?=[A-Z])")


def _as_sphinx_reads(_: Sphinx, *rest: Any) -> None:
    """Docstrings of the package are for readers of Python: an indented part is code."""
    lines: list[str] = rest[-1]
    for number, line in enumerate(lines[:-2]):
        opens = line.rstrip().endswith(":") and not line.rstrip().endswith("::")
        indent = len(line) - len(line.lstrip())
        following = lines[number + 2]
        deeper = len(following) - len(following.lstrip()) > indent
        if opens and not lines[number + 1].strip() and following.strip() and deeper:
            lines[number] = f"{line.rstrip()}:"


def _in_short(*event: Any) -> tuple[str, str | None] | None:
    """Types without the modules they are from."""
    signature, returned = event[-2:]
    if signature is None:
        return None
    return _MODULE.sub("", signature), returned and _MODULE.sub("", returned)


def _is_no_field(*event: Any) -> bool | None:
    """Leave out the fields of named tuples, of which Python itself says nothing."""
    return True if (getattr(event[3], "__doc__", "") or "").startswith("Alias for field") else None


def _with_every_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Pages that `index.md` does not name yet come last, so that each can be reached."""
    if page != "index":
        return
    named = set(re.findall(r"^[\w/-]+$", source[0], re.MULTILINE))
    others = sorted(app.env.found_docs - named - {"index"})
    if others:
        entries = "\n".join(others)
        source[0] += f"\n```{{toctree}}\n:caption: More\n:maxdepth: 1\n\n{entries}\n```\n"


class OutsideLinks(SphinxTransform):
    """Links to files of the project that are no page become their text: the site lacks them."""

    default_priority = 1

    def apply(self, **_: Any) -> None:
        """Before the links are looked up."""
        page = Path(self.env.doc2path(self.env.docname))
        folder = HERE.parent if page.stem == "contributing" else page.parent
        for link in list(self.document.findall(addnodes.pending_xref)):
            target = str(link["reftarget"]).partition("#")[0]
            path = (folder / target).resolve()
            if target and "://" not in target and HERE not in path.parents and path.exists():
                link.replace_self(link.children)


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the reference, and look at what Sphinx reads."""
    generate.write(HERE / "reference")
    app.add_transform(OutsideLinks)
    app.connect("source-read", _with_every_page)
    app.connect("autodoc-process-docstring", _as_sphinx_reads)
    app.connect("autodoc-process-signature", _in_short)
    app.connect("autodoc-skip-member", _is_no_field)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
