"""What it costs to give out a ballot and to store its vote, with few ballots and with many.

    ./dev bench leasing [--few 2000] [--many 50000] [--votes 300]

Leasing must cost the same at any size: the last column is the ratio of many to few, in one run on
one scratch SQLite database. No web server and no images: the services alone.
"""

import argparse
import os
import tempfile
import time


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--few", type=int, default=2_000, help="ballots (2000)")
    options.add_argument("--many", type=int, default=50_000, help="ballots (50000)")
    options.add_argument("--votes", type=int, default=300, help="votes to time (300)")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"VAR_DIR": folder, "LOG_LEVEL": "WARNING"}
        os.environ.pop("DATABASE_URL", None)
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "evalsite.settings")
        report(asked.few, asked.many, asked.votes)


def report(few: int, many: int, n_votes: int) -> None:
    import django

    django.setup()
    from django.core.management import call_command
    from rich.console import Console
    from rich.table import Table

    call_command("migrate", verbosity=0)
    table = Table("act", f"{few:,} ballots", f"{many:,} ballots", "ratio", box=None)
    small, large = cost(few, n_votes), cost(many, n_votes)
    for act in small:
        times = f"{small[act]:.2f} ms", f"{large[act]:.2f} ms"
        table.add_row(act, *times, f"{large[act] / small[act]:.2f}")
    Console().print(table)


def cost(n_ballots: int, n_votes: int) -> dict[str, float]:
    """Milliseconds a lease and a vote in an open study of so many ballots, medians."""
    from statistics import median

    from django.utils import timezone

    from evalsite.voting import services

    study = open_study(n_ballots)
    raters = [
        services.enrol_rater(study=study, at=timezone.now(), consent_version="bench")
        for _ in range(10)
    ]
    leases, votes = [], []
    for i in range(n_votes):
        start = time.perf_counter()
        showing = services.lease_ballot(rater=raters[i % 10], at=timezone.now())
        leased = time.perf_counter()
        assert showing is not None
        services.cast_vote(
            showing=showing, take=1, choice="LEFT", response_ms=900, at=timezone.now()
        )
        leases.append(leased - start)
        votes.append(time.perf_counter() - leased)
    return {"lease": 1000 * median(leases), "vote": 1000 * median(votes)}


def open_study(n_ballots: int):  # type: ignore[no-untyped-def]
    """Two systems and one criterion, opened as the house does; images by name only."""
    from django.utils import timezone

    from evalsite.studies.models import Comparison, Criterion, Entry, Prompt, Study, System
    from evalsite.voting import services
    from generation.models import Image

    now = timezone.now()
    study = Study.objects.create(
        slug=f"bench-{n_ballots}",
        title="Bench",
        seed=1,
        display_size=64,
        on_duplicate="KEEP",  # one picture stands for all
        created_at=now,
    )
    Criterion.objects.create(study=study, key="q", question="Which?", position=0)
    systems = [
        System.objects.create(
            study=study, key=key, label=key, recipe={"revision": key}, licence="-", position=i
        )
        for i, key in enumerate(("a", "b"))
    ]
    prompts = Prompt.objects.bulk_create(
        Prompt(study=study, position=i, text=f"prompt {i}") for i in range(n_ballots)
    )
    ready = {"status": "READY", "sha256": "0", "width": 64, "height": 64, "recipe_digest": "-"}
    image, _ = Image.objects.get_or_create(
        digest="bench",
        defaults={
            "recipe": {},
            "prompt": "-",
            "seed": 0,
            "requested_at": now,
            "file": "x",
            **ready,
        },
    )
    entries = {
        system.pk: Entry.objects.bulk_create(
            Entry(system=system, prompt=p, seed=0, image=image, display=f"{study.slug}/{p.pk}/{n}")
            for p in prompts
        )
        for n, system in enumerate(systems)
    }
    Comparison.objects.bulk_create(
        Comparison(first=first, second=second)
        for first, second in zip(*entries.values(), strict=True)
    )
    return services.open_study(study=study, at=now)


if __name__ == "__main__":
    main()
