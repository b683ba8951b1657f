"""`manage.py import_images FOLDER`: images from elsewhere, ready for a study file to name."""

import re
from argparse import ArgumentParser, ArgumentTypeError
from collections import Counter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from evalsite.studies.importing import Brought, asked_by, bring
from evalsite.studies.spec_problems import SpecError
from evalsite.studies.wording import counted
from generation.layouts import LAYOUTS
from generation.manifest import ManifestError


def pixels(text: str) -> tuple[int, int]:
    """`512`, or `640x480`: width and height."""
    match = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text)
    if not match:
        raise ArgumentTypeError(f"expected pixels as 512 or 640x480, got {text!r}")
    return int(match[1]), int(match[2] or match[1])


class Command(BaseCommand):
    help = (
        "Read a folder of images, check every one and write the manifest that lets a study file "
        "name it. Layouts: " + ", ".join(LAYOUTS) + "."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, help="where the images lie")
        parser.add_argument("--layout", choices=LAYOUTS, help="found by itself unless named")
        parser.add_argument(
            "--system",
            default="",
            metavar="KEY",
            help="the system's key in the study; of several models, the one to take",
        )
        parser.add_argument(
            "--prompts", type=Path, help="the layout's list of prompts, or the folder of its lists"
        )
        parser.add_argument(
            "--study", default="", metavar="SLUG-OR-FILE", help="hold prompts and sizes against it"
        )
        parser.add_argument(
            "--pick", action="store_true", help="leave out images of prompts not in the study"
        )
        parser.add_argument("--size", type=pixels, help="every image must have it: 512 or 640x480")
        parser.add_argument(
            "--out", type=Path, help="copy the images into this new folder, with the manifest"
        )
        parser.add_argument(
            "--replace", action="store_true", help="write over the metadata.jsonl that is there"
        )

    def handle(self, *args: Any, folder: Path, study: str, **options: Any) -> None:
        if options["pick"] and not study:
            raise CommandError("--pick: expected --study beside it")
        names = ("layout", "system", "prompts", "pick", "size", "out", "replace")
        settings = {name: options[name] for name in names}
        settings["layout"] = settings["layout"] or ""
        if settings["out"]:
            settings["out"] = settings["out"].expanduser().absolute()
        try:
            asked = asked_by(study) if study else None
            brought = bring(folder.expanduser().absolute(), asked=asked, **settings)
        except (ManifestError, SpecError) as error:
            lines = "\n".join(f"  - {problem}" for problem in error.problems)
            raise CommandError(f"Nothing was written. Cannot import {folder}:\n{lines}") from error
        except OSError as error:
            raise CommandError(f"Nothing was written. Cannot import {folder}: {error}") from error
        self._tell(brought)

    def _tell(self, brought: Brought) -> None:
        done = "Written" if brought.is_written else "Checked"
        self.stdout.write(f"  {done}: {brought.folder} (layout {brought.layout})")
        for system in brought.systems:
            own = [image for image in brought.images if image.system == system]
            n_prompts = len({image.prompt for image in own})
            sizes = Counter(f"{width} x {height}" for width, height in (one.size for one in own))
            told = ", ".join(f"{n:,} of {size}" for size, n in sizes.most_common(3))
            self.stdout.write(f"  {system}: {counted(n_prompts, 'prompt')}, images: {told}")
        if brought.n_left:
            of_what = "of another prompt was" if brought.n_left == 1 else "of other prompts were"
            self.stdout.write(f"  {counted(brought.n_left, 'image')} {of_what} left out.")
        self.stdout.write("\n  In the study file, with a label and a licence of your own:\n")
        for system in brought.systems:
            self.stdout.write(
                f'\n[[systems]]\nkey = "{system}"\nlabel = "{system}"\nlicence = ""\n'
                f'family = "imported"\nfolder = {_toml(str(brought.folder))}'
            )


def _toml(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
