"""`manage.py verify_images`: paints a sample again, and says whether the same comes out."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import QuerySet
from rich.console import Console
from rich.text import Text

from evalsite.studies.models import Entry, Study, System
from evalsite.studies.wording import counted
from generation.models import Image
from generation.spec import Recipe
from generation.verifying import RecipeFindings, verify, worst

TOLERANCE = 1  # what a batch of another size may change on the same machine


class Command(BaseCommand):
    help = (
        "Paints a sample of stored images again and reports drift: identical, within some grey "
        "levels, or different. Changes nothing. Exit status 1 where an image drifted too far, "
        "could not be painted, or its stored file is not what was stored."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--study", metavar="SLUG", help="only the images of this study")
        parser.add_argument("--sample", type=int, default=3, help="images of each system (3)")
        parser.add_argument("--seed", type=int, default=0, help="of the sample (0)")
        parser.add_argument(
            "--tolerance",
            type=int,
            default=TOLERANCE,
            metavar="LEVELS",
            help=f"largest difference allowed, in grey levels of 255 ({TOLERANCE})",
        )
        parser.add_argument(
            "--as-painted", action="store_true", help="in batches as large as those recorded"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["sample"] < 1:
            raise CommandError(f"--sample: expected 1 or more, found {options['sample']}")
        if not 0 <= options["tolerance"] <= 255:
            raise CommandError(f"--tolerance: expected 0 to 255, found {options['tolerance']}")
        self.stdout.ending = ""  # rich ends its own lines
        self.console = Console(file=self.stdout, highlight=False, width=120)  # type: ignore[arg-type]
        images, names = _images(options["study"])
        n_recipes, failed = 0, 0
        for one in verify(
            images,
            sample=options["sample"],
            seed=options["seed"],
            as_painted=options["as_painted"],
        ):
            n_recipes += 1
            failed += self._show(one, names, options["tolerance"])
        if not n_recipes:
            raise CommandError("There is no finished image to verify.")
        if failed:
            are = "is" if failed == 1 else "are"
            raise CommandError(f"{counted(failed, 'image')} {are} not as stored: see above.")
        self._say("All as stored.")

    def _show(self, one: RecipeFindings, names: dict[str, str], tolerance: int) -> int:
        """One system: its counts, versions, and each image that fails; how many do."""
        found = one.findings
        failing = [finding for finding in found if not finding.is_within(tolerance)]
        identical = sum(finding.identical for finding in found)
        near = len(found) - identical - len(failing)
        largest, mean = worst(found)
        self._say(names.get(found[0].image.recipe_digest) or _named(one.recipe))
        if one.recipe["family"] == "imported":
            self._say(
                f"  {identical:,} of {counted(len(found), 'stored file')} unchanged (imported)"
            )
        else:
            allowed = counted(tolerance, "grey level")
            self._say(
                f"  {identical} identical, {near} within {allowed}, {len(failing)} "
                f"different or damaged; largest difference {largest}, mean {mean:.4f}"
            )
        for name, now in one.now.items():
            then = one.then[name]
            if then == now:
                self._say(f"  {name}: {now}")
            else:
                differs = f"  {name}: was {then or 'not recorded'}, is {now}   <- differs"
                self._say(Text(differs, "yellow"))
        for finding in failing:
            why = finding.problem or f"differs by up to {counted(finding.largest, 'grey level')}"
            self._say(f"  image {finding.image.pk} ({finding.image.prompt[:60]}): {why}")
        return len(failing)

    def _say(self, text: str | Text) -> None:
        self.console.print(text, markup=False, soft_wrap=True)


def _images(slug: str | None) -> tuple[QuerySet[Image], dict[str, str]]:
    """The images to draw from, and names of recipes as studies have them."""
    systems = System.objects.all()
    images = Image.objects.all()
    if slug:
        study = Study.objects.filter(slug=slug).first()
        if study is None:
            known = ", ".join(Study.objects.values_list("slug", flat=True)[:20]) or "none yet"
            raise CommandError(f"There is no study {slug}. Studies: {known}.")
        systems = systems.filter(study=study)
        entries = Entry.objects.filter(system__study=study, image__isnull=False)
        images = images.filter(pk__in=entries.values("image"))
    names = {Recipe.model_validate(s.recipe).digest: s.label for s in systems if s.recipe}
    return images, names


def _named(recipe: dict[str, Any]) -> str:
    n = recipe.get("steps")
    steps = f", {counted(n, 'step')}" if n else ""
    return f"{recipe['checkpoint']}{steps}"
