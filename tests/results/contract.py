"""The schema of report.json, held against every report that a test makes."""

import json
from pathlib import Path
from typing import Any

import jsonschema

import evalsite.results

SCHEMA: dict[str, Any] = json.loads(
    (Path(evalsite.results.__file__).parent / "report.schema.json").read_text(encoding="utf-8")
)


def check(report: dict[str, Any]) -> None:
    """As any JSON parser would read it: no NaN, nothing but what the schema names."""
    text = json.dumps(report, allow_nan=False)
    jsonschema.validate(json.loads(text), SCHEMA, cls=jsonschema.Draft202012Validator)
