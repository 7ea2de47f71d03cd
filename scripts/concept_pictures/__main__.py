"""`python -m scripts.concept_pictures`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from scripts.concept_pictures.pictures import PICTURES

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"


def main() -> int:
    """Draw all of them, or with `--check` only compare."""
    stale = []
    for name, draw in PICTURES.items():
        file = IMAGES / f"concepts-{name}.svg"
        with tempfile.TemporaryDirectory() as folder:
            drawn = draw(Path(folder))
        if not file.exists() or file.read_text(encoding="utf-8") != drawn:
            stale.append(file.name)
            if "--check" not in sys.argv[1:]:
                file.write_text(drawn, encoding="utf-8")
    for name_of_file in stale:
        print(f"{name_of_file}: drawn anew")
    return int("--check" in sys.argv[1:] and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
