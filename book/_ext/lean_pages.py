"""Pages that load what they show and nothing else, that say in their head what they are about, and fit a phone.

Jupyter Book puts the scripts of live kernels on every page; this book has none. The theme's own weight is cut by
``_templates/static/webpack-macros.html``. Figures wider than ``WIDE`` get a class, by which the style sheet keeps
them at a size that can be read on a phone.
"""

import html
import shutil
from pathlib import Path

import imagesize
from docutils import nodes

UNUSED_SCRIPTS = ("thebe",)  # in a script's name or text
UNUSED_FOLDERS = ("vendor/fontawesome",)  # below _static
LONGEST = 200  # characters of a description
WIDE = 900  # pixels

# The reader's colour scheme before anything is drawn; the theme's script, at the end of the page, goes on from it.
# Without scripts the page is light.
EARLY = """
<script>
  if (!localStorage.getItem("mode")) localStorage.setItem("mode", "auto");
  if (localStorage.getItem("mode") === "auto")
    localStorage.setItem("theme", matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
</script>"""


def description(doctree: nodes.document) -> str:
    """The first sentences of a page's first paragraph below its heading, without the line on a run's provenance."""
    for paragraph in doctree.findall(nodes.paragraph):
        inside = paragraph.parent
        if isinstance(inside, nodes.section):
            text = " ".join(paragraph.astext().split())
            if len(text) <= LONGEST:
                return text
            sentence = text.rfind(". ", 0, LONGEST)
            return text[: sentence + 1] if sentence > 0 else text[:LONGEST].rsplit(" ", 1)[0] + " …"
    return ""


def lighten(app, pagename, templatename, context, doctree):
    def unused(script) -> bool:
        words = f"{script} {getattr(script, 'filename', '')} {getattr(script, 'attributes', {}).get('body', '')}"
        return any(name in words.lower() for name in UNUSED_SCRIPTS)

    context["script_files"] = [script for script in context.get("script_files", []) if not unused(script)]
    text = description(doctree) if doctree is not None else ""
    meta = f'\n<meta name="description" content="{html.escape(text)}" />' if text else ""
    context["metatags"] = context.get("metatags", "") + meta + EARLY


def mark_wide(app, doctree, docname):
    for image in doctree.findall(nodes.image):
        file = Path(app.srcdir, image["uri"])
        if file.is_file() and imagesize.get(file)[0] > WIDE:
            image["classes"].append("wide")


def remove_unused(app, exception):
    if exception is None and app.builder.format == "html":
        for name in UNUSED_FOLDERS:
            shutil.rmtree(Path(app.outdir, "_static", name), ignore_errors=True)


def setup(app):
    app.connect("doctree-resolved", mark_wide)
    app.connect("html-page-context", lighten, priority=900)
    app.connect("build-finished", remove_unused, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
