"""`deffd plan`: can these links feed this federation?"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields

from rich.console import Console

from deffd_flower.commands.plan_tables import print_plan
from deffd_flower.commands.request import read_request, typed_keys
from deffd_flower.config import RunConfig
from deffd_flower.data.datasets import resolve_auto
from deffd_flower.errors import RequestError
from deffd_flower.qkd.plan import LinkPlan, SuitePlan, largest_models
from deffd_flower.qkd.planner import Planner, package_sizes
from deffd_flower.request import resolve

_DERIVED = ("round_s", "gather_s", "empty_s", "first_s", "hops", "limited_by", "sustainable")


def plan_command(words: Sequence[str], as_json: bool) -> None:
    """Print the plan of a request; nothing is trained, simulated or written.

    Args:
        words: The request, as for `deffd run`.
        as_json: Print one JSON object instead of tables.

    Raises:
        RequestError: The request is wrong.
    """
    request = read_request(words)
    if request.get("dataset") == "auto":
        request["dataset"] = resolve_auto(str(request.get("data-dir", "")))
    config = resolve(request, typed_keys(words))
    if config.key_source != "embedded":
        advice = "deffd plan reckons with simulated links; leave it out"
        raise RequestError("key-source", config.key_source, advice)
    planner = Planner(config, *package_sizes(config))
    if as_json:
        print(json.dumps(plan_values(planner), indent=2, allow_nan=False))
    else:
        print_plan(planner, Console())


def plan_values(planner: Planner) -> dict[str, object]:
    """Return a plan as `deffd plan --json` prints it; what is infinite or unknown is ``None``."""
    otp = largest_models(planner.suites["otp"], *planner.packages)
    package = planner.packages[0]
    drawn = 0 if planner.traffic.exact else len(planner.traffic.rounds)
    return {
        "config": planner.config.values(),
        "package": asdict(package) if len(planner.packages) == 1 else None,
        "packages": {
            name: asdict(size)
            for name, size in zip(planner.config.cast.names, planner.packages, strict=True)
        },
        "rounds_drawn": drawn,
        "suites": {name: _suite(plan, planner.config) for name, plan in planner.suites.items()},
        "largest_otp_model": None
        if otp is None
        else {
            when: {"bytes": size, "parameters": package.parameters_in(size)}
            for when, size in asdict(otp).items()
        },
    }


def _suite(plan: SuitePlan, config: RunConfig) -> dict[str, object]:
    own = {field.name: getattr(plan, field.name) for field in fields(plan)}
    del own["suite"], own["links"]
    return {
        **{name: _finite(value) for name, value in own.items()},
        **{name: _finite(getattr(plan, name)) for name in _DERIVED},
        "rounds_per_day": {
            "federation": _finite(plan.rounds_per_day),
            "compute_and_transfer": _finite(plan.pace),
            "key": _finite(plan.key_pace),
        },
        "bottleneck": plan.links[0].link if plan.links else None,
        "verdict": plan.verdict(config),
        "links": [_link(link) for link in plan.links],
    }


def _link(link: LinkPlan) -> dict[str, object]:
    values = {**asdict(link), "rounds_per_day": link.rounds_per_day}
    return {name: _finite(value) for name, value in values.items()}


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
