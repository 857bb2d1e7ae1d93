"""What the site needs beyond Markdown: links that leave the documents, and all decisions."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Put every decision, and every page that mkdocs.yml does not name, where it belongs."""
    records = sorted(Path(config.docs_dir, "decisions").glob("0*.md"))
    reference = next(part["Reference"] for part in config.nav if "Reference" in part)
    section = next(part["Decisions"] for part in reference if "Decisions" in part)
    section += [{_title(record): f"decisions/{record.name}"} for record in records]
    named = str(config.nav)
    for page in sorted(Path(config.docs_dir).glob("*.md")):
        if page.name not in named:
            working = next(part["How it works"] for part in config.nav if "How it works" in part)
            working.append({_title(page): page.name})
    return config


def _title(page: Path) -> str:
    return page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to files outside docs/, which the site does not have, into their names."""
    depth = len(PurePosixPath(page.file.src_uri).parent.parts)

    def without_target(found: re.Match[str]) -> str:
        leaves = found[2].startswith("../" * (depth + 1))
        return found[1] if leaves else found[0]

    return _LINK.sub(without_target, markdown)
