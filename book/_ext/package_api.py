"""``.. package-api:: tedloc.model tedloc.data`` documents modules, and every module of a package as they are found.

Docstrings here are written to be read in the source: plain English, with columns and lists laid out by spaces.
``to_rst`` shows them so on a page: paragraphs flow, columns become definitions, anything else that is indented
keeps its layout.
"""

import importlib
import pkgutil
import re
import textwrap

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

MARKUP = re.compile(r"(``.+?``|:\w+:`[^`]+`)", re.DOTALL)
# "name:  text", "name  text" or "first, second: text": what a name means
COLUMN = re.compile(r"^(?:(?P<term>\S(?:.{0,38}?\S)??):?\s{2,}|(?P<name>[\w.`*]+(?:, [\w.`*]+)*):\s)(?P<text>\S.*)$")
ITEM = re.compile(r"^(?P<mark>[-*]|\d+\.) +(?P<text>\S.*)$")


OWN = "   :ignore-module-all:"  # what a room's face hands on stands with the module that defines it


def escape(text: str) -> str:
    """Keep ``code`` and roles; let every other character stand for itself, and "L. Welch" be no list of letters."""
    pieces = MARKUP.split(text)
    pieces[::2] = [re.sub(r"([\\*_`|])", r"\\\1", piece) for piece in pieces[::2]]
    return re.sub(r"^(\(?\w{1,4})([.)] )", r"\1\\\2", "".join(pieces), flags=re.MULTILINE)


def to_rst(docstring: str) -> str:
    """A docstring as reStructuredText that says the same."""
    blocks = []
    for paragraph in re.split(r"\n\s*\n", docstring.strip("\n")):
        indented = paragraph.startswith(" ")
        lines = textwrap.dedent(paragraph).split("\n")
        if indented and not COLUMN.match(lines[0]) and not ITEM.match(lines[0]):
            blocks.append(".. code-block:: none\n\n" + textwrap.indent("\n".join(lines), "   "))
            continue
        entries = []  # [kind or term, text]
        for line in lines:
            column, item = COLUMN.match(line), ITEM.match(line)
            unfinished = entries and entries[-1][0] is not None and entries[-1][1][-1] not in ".;:)"
            if entries and line.startswith(" ") or unfinished and line[0].islower() and not column and not item:
                entries[-1][1] += " " + line.strip()
            elif item:
                entries.append([item["mark"], item["text"]])
            elif column:
                entries.append([column["term"] or column["name"], column["text"]])
            elif entries and entries[-1][0] is None:
                entries[-1][1] += "\n" + line
            else:
                entries.append([None, line])
        for term, text in entries:
            if term is None:
                blocks.append(escape(text))
            elif re.fullmatch(r"[-*]|\d+\.", term):
                blocks.append(f"{term} {escape(text)}")
            else:
                blocks.append(f"{escape(term)}\n   {escape(text)}")
    return "\n\n".join(blocks)


def modules(name: str) -> list[str]:
    """A module; or a package and all its modules, parents first; private ones are left out."""
    found = pkgutil.walk_packages(getattr(importlib.import_module(name), "__path__", ()), f"{name}.")
    names = [name, *(module.name for module in found)]
    return [name for name in names if not any(part.startswith("_") for part in name.split("."))]


class PackageApi(SphinxDirective):
    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        sections = nodes.section()
        sections.document = self.state.document
        for name in (name for each in self.arguments[0].split() for name in modules(each)):
            text = [name, "-" * len(name), "", f".. automodule:: {name}", "   :members:", OWN, ""]
            self.state.nested_parse(StringList(text, source=name), 0, sections, match_titles=1)
        return sections.children


def rewrite(app, what, name, obj, options, lines):
    lines[:] = [*to_rst("\n".join(lines)).split("\n"), ""]


def without_boilerplate(app, what, name, obj, skip, options):
    return True if (obj.__doc__ or "").startswith("Alias for field number") else None


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", rewrite)
    app.connect("autodoc-skip-member", without_boilerplate)
    app.add_directive("package-api", PackageApi)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
