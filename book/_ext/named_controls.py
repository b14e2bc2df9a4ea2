"""Names for what the theme and its helpers leave unnamed or misname: for readers who hear a page instead of seeing it.

Each change keeps to markup and adds nothing that is seen. A page that was changed before stays as it is, so one
that an earlier build wrote is met again without harm.
"""

import re
from pathlib import Path

CHAPTERS = re.compile(
    r'(<a class="[^"]*\breference internal"[^>]*>)([^<]*)(</a><details[^>]*><summary)(?=><span class="toctree)'
)
SIDEBAR = re.compile(r'(<div class="bd-sidebar-primary bd-sidebar[^"]*")>')
SAYS_ITS_TEXT = (  # its own text is its name; a label hid it
    (re.compile(r'(<button class="btn search-button-field [^>]*?) aria-label="[^"]*"'), r"\1"),
    (re.compile(r'<summary aria-label="Toggle hidden content">'), "<summary>"),
)


def named(page: str) -> str:
    """The HTML of a page with its controls and landmarks named, and its list of sources a list of items."""
    page = CHAPTERS.sub(
        lambda found: f'{found[1]}{found[2]}{found[3]} aria-label="Pages below {found[2].strip()}"', page
    )
    page = SIDEBAR.sub(r'\1 role="complementary" aria-label="Chapters and search">', page)
    for hidden, plain in SAYS_ITS_TEXT:
        page = hidden.sub(plain, page)
    return page.replace('role="doc-biblioentry"', 'role="listitem"')


def name_all(app, exception) -> None:
    if exception or app.builder.format != "html":
        return
    for file in Path(app.outdir).rglob("*.html"):
        if file.relative_to(app.outdir).parts[0].startswith("_"):
            continue
        page = file.read_text(encoding="utf-8")
        if (changed := named(page)) != page:
            file.write_text(changed, encoding="utf-8")


def setup(app):
    app.connect("build-finished", name_all, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
