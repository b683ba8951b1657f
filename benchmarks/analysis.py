"""What the numbers of a report cost, from columns of text, with many votes and many systems.

    ./dev bench analysis [--votes 100000 1000000 10000000] [--systems 20 100] [--quick]
        [--out FILE.md]

Synthetic votes (500 of each rater, 2,000 prompts, one vote in ten a tie). Every measurement has a
process and one thread of its own; it reads its columns before the clock starts, and its peak of
memory holds them and all libraries. Times compare within one run only. What is measured:

    report           every number of report.json with default options; no file is written
    report, slices   the same with ten categories of prompts to slice by; up to 1 million votes
    fit              counting and fitting Bradley-Terry, from three columns of text
    bootstrap        the same, and 1,000 rounds of resampling, which count again
    evalica fit      counting and fitting, from lists of text and of its own winners
    evalica rounds   the same, and 10 rounds of its bootstrap; up to 1 million votes
    statsmodels      its binomial model on our counts, counting left out; where it is installed

The last column is CPU seconds over those of our fit; for evalica rounds 100 times its rounds over
our 1,000, each without the fit: (evalica rounds - evalica fit) * 100 / (bootstrap - fit). On a
machine that others use CPU seconds say more than wall seconds.
"""

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS")
os.environ |= dict.fromkeys(THREADS, "1")  # before numpy: what one core does

import django  # noqa: E402
import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

if TYPE_CHECKING:
    from evalsite.stats import Votes

VOTES_OF_A_RATER, PROMPTS = 500, 2_000
ROUNDS, THEIR_ROUNDS = 1_000, 10
CATEGORIES = 10
LIMITED = ("report, slices", "evalica rounds")  # not measured with more votes than:
MOST = 1_000_000
WINNERS = ("a", "b", "tie")

FITTED = ("system_a", "system_b", "winner")
REPORTED = ("rater_id", "prompt_id", "left")

Job = Callable[[], object]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--votes", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    options.add_argument("--systems", type=int, nargs="+", default=[20, 100])
    options.add_argument("--quick", action="store_true", help="20,000 votes on 5 systems")
    options.add_argument("--out", type=Path, help="write the table to this file too")
    options.add_argument("--job", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.job:
        print(json.dumps(cost(*asked.job)))
        return
    sizes = [(n, k) for k in asked.systems for n in asked.votes]
    table = []
    with tempfile.TemporaryDirectory() as folder:
        for line in lines([(20_000, 5)] if asked.quick else sizes, Path(folder) / "votes.parquet"):
            print(line, flush=True)
            table.append(line)
    if asked.out:
        asked.out.write_text("\n".join([*table, ""]))


def lines(sizes: list[tuple[int, int]], path: Path) -> Iterator[str]:
    """The table, line by line as it is measured."""
    yield "| votes | systems | what | wall s | CPU s | peak MB | over ours |"
    yield "|---|---|---|---|---|---|---|"
    for size in sizes:
        yield from lines_of(*size, path)


def lines_of(n_votes: int, n_systems: int, path: Path) -> Iterator[str]:
    """Each job's line, for one number of votes and of systems."""
    # Elsewhere: a process starts with the peak of the one that starts it.
    drawing = get_context("spawn").Process(target=write, args=(n_votes, n_systems, path))
    drawing.start()
    drawing.join()
    cpu: dict[str, float] = {}
    for name in JOBS:
        if name in LIMITED and n_votes > MOST:
            continue
        head = f"| {n_votes:,} | {n_systems} | {name} |"
        if name == "statsmodels" and importlib.util.find_spec(name) is None:
            yield f"{head} not installed | | | |"
            continue
        spent = measure(name, path)
        cpu[name] = spent["cpu"]
        numbers = f"{spent['wall']:.2f} | {spent['cpu']:.2f} | {spent['peak']:,.0f}"
        yield f"{head} {numbers} | {over_ours(name, cpu)} |"


def over_ours(name: str, cpu: dict[str, float]) -> str:
    """How many times ours it takes; of rounds, without the fit that stands before them."""
    if name in ("evalica fit", "statsmodels"):
        return f"{cpu[name] / cpu['fit']:.1f}"
    if name == "evalica rounds":
        theirs = (cpu[name] - cpu["evalica fit"]) * ROUNDS / THEIR_ROUNDS
        return f"{theirs / (cpu['bootstrap'] - cpu['fit']):,.0f}"
    return ""


def measure(name: str, path: Path) -> dict[str, float]:
    """Run a job in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.analysis", "--job", name, str(path)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(run.stdout)
    return found


def cost(name: str, path: str) -> dict[str, float]:
    """Wall and CPU seconds, and the peak of memory in MB, of one job in this process."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "evalsite.settings")
    django.setup()
    job = JOBS[name](pl.read_parquet(path, columns=columns_of(name)))
    wall, cpu = time.perf_counter(), time.process_time()
    job()
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {**spent, "peak": peak / 1e6}


def columns_of(name: str) -> list[str]:
    """What a job reads."""
    if name == "report":
        return [*FITTED, *REPORTED]
    return [*FITTED, *REPORTED, "category"] if name == "report, slices" else [*FITTED]


def write(n_votes: int, n_systems: int, path: Path) -> None:
    draw(n_votes, n_systems).write_parquet(path)


def draw(n_votes: int, n_systems: int) -> pl.DataFrame:
    """Votes in columns of text."""
    rng = np.random.default_rng(n_votes + n_systems)
    first = rng.integers(0, n_systems, n_votes)
    second = (first + rng.integers(1, n_systems, n_votes)) % n_systems
    ratings = np.linspace(-1, 1, n_systems)
    lost = rng.random(n_votes) > 1 / (1 + np.exp(ratings[second] - ratings[first]))
    winners = np.where(rng.random(n_votes) < 0.1, 2, lost)
    n_raters = max(10, n_votes // VOTES_OF_A_RATER)
    raters = rng.integers(0, n_raters, n_votes)
    prompts = rng.integers(0, PROMPTS, n_votes)
    columns = {
        "rater_id": named("rater", raters, n_raters),
        "prompt_id": named("prompt", prompts, PROMPTS),
        "system_a": named("system", first, n_systems),
        "system_b": named("system", second, n_systems),
        "winner": pl.Series(WINNERS).gather(winners),
        "left": pl.Series(WINNERS[:2]).gather(rng.integers(0, 2, n_votes)),
        "category": named("category", prompts % CATEGORIES, CATEGORIES),
    }
    return pl.DataFrame(columns)


def named(what: str, numbers: NDArray[np.integer], n: int) -> pl.Series:
    return pl.Series([f"{what}-{i:06}" for i in range(n)]).gather(numbers)


# The jobs: each takes its columns, and gives what is to be timed.


def report_job(frame: pl.DataFrame) -> Job:
    from evalsite.results.imported import design_of, votes_of
    from evalsite.results.report import report_of
    from evalsite.results.summary import summarise
    from evalsite.results.votes_file import Lines, number_votes
    from evalsite.stats import Options

    waiting = [frame]  # given up once it is numbered, as `read_votes` does

    def run() -> object:
        table = number_votes(waiting.pop(), Lines(Path("votes.parquet")))
        summary = summarise(design_of(table), votes_of(table), Options())
        return report_of(summary, study=None, provenance={})

    return run


def votes_of_columns(frame: pl.DataFrame) -> "Votes":
    """Checked votes from three columns of text."""
    from evalsite.results.imported import votes_of
    from evalsite.results.votes_file import Lines, number_votes
    from evalsite.stats import Votes

    table = number_votes(frame, Lines(Path("votes.parquet")))
    read = votes_of(table)
    columns = (read.first, read.second, read.outcomes, read.raters, read.prompts)
    return Votes(*columns, len(table.systems))


def fit_job(frame: pl.DataFrame) -> Job:
    from evalsite.stats.fit import fit_bradley_terry
    from evalsite.stats.tallies import count_table, kinds_of

    def run() -> object:
        counts = count_table(kinds_of(votes_of_columns(frame)))
        return fit_bradley_terry(counts[..., 2] + counts[..., 1] / 2, counts.sum(axis=2))

    return run


def bootstrap_job(frame: pl.DataFrame) -> Job:
    from evalsite.stats import bootstrap_ratings

    fit = fit_job(frame)

    def run() -> object:
        fit()
        return bootstrap_ratings(votes_of_columns(frame), ROUNDS, np.random.default_rng(0))

    return run


def evalica_job(frame: pl.DataFrame, rounds: int = 0) -> Job:
    import evalica

    theirs = {"a": evalica.Winner.X, "b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    one, two = frame["system_a"].to_list(), frame["system_b"].to_list()
    winners = [theirs[word] for word in frame["winner"].to_list()]
    # Its own tolerance of 1e-6 is loose: ours stops at gradients below 1e-8.
    closely: dict[str, Any] = {"tolerance": 1e-10, "limit": 10_000}

    def run() -> object:
        found = evalica.bradley_terry(one, two, winners, **closely)
        if rounds:
            chance: dict[str, Any] = {
                "n_resamples": rounds,
                "bootstrap_method": "percentile",
                "random_state": 0,
            }
            evalica.bootstrap(evalica.bradley_terry, one, two, winners, **closely, **chance)
        return found

    return run


def statsmodels_job(frame: pl.DataFrame) -> Job:
    import statsmodels.api as sm

    from evalsite.stats.tallies import count_table, kinds_of

    counts = count_table(kinds_of(votes_of_columns(frame)))
    won, played = counts[..., 2] + counts[..., 1] / 2, counts.sum(axis=2)
    first, second = np.nonzero(played)
    design = np.eye(len(played))[first] - np.eye(len(played))[second]
    answers = np.column_stack([won[first, second], (played - won)[first, second]])

    def run() -> object:  # the first system is held at 0
        return sm.GLM(answers, design[:, 1:], family=sm.families.Binomial()).fit()

    return run


JOBS: dict[str, Callable[[pl.DataFrame], Job]] = {
    "report": report_job,
    "report, slices": report_job,
    "fit": fit_job,
    "bootstrap": bootstrap_job,
    "evalica fit": evalica_job,
    "evalica rounds": lambda frame: evalica_job(frame, THEIR_ROUNDS),
    "statsmodels": statsmodels_job,
}


if __name__ == "__main__":
    main()
