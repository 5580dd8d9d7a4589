"""Write the page of a fine-tuning strategy from its class."""

from algorithm_pages import settings_table
from command_output import described
from equations import with_equations
from markdown_text import code, escape, fence, table

from off2on.commands.algos import plain
from off2on.commands.strategies import strategies
from off2on.strategies import CATALOGUE


def strategy_page(name: str) -> str:
    """Return the page of a strategy of the catalogue."""
    page, summary = described(strategies, name), CATALOGUE[name][1]
    _, _, text = page["description"].partition("\n")
    parts = [
        f"# {name}",
        f"**Batches: {escape(summary)}.** [Source file](../source/platform/off2on/strategies/{name}.py.md).",
    ]
    if text.strip():
        parts.append(with_equations(text))
    parts += ["## Use", fence(page["try"])]
    if page["options"]:
        parts += ["## Options", "`strategy.NAME=VALUE`", settings_table("option", page["options"])]
    parts.append("## Online settings")
    if page["online_settings"]:
        rows = [[code(f"online.{key}"), code(plain(value))] for key, value in page["online_settings"].items()]
        parts += [
            "Defaults with this strategy; each can be set to another value:",
            table(["setting", "value"], rows),
        ]
    else:
        parts.append("This strategy changes no online setting: all have their defaults.")
    parts.append(
        "All settings: [online settings](settings.md). "
        "Measured: [comparison of strategies](../online.md#comparison-of-strategies)."
    )
    return "\n\n".join(parts) + "\n"


def online_settings_page() -> str:
    """Return the page of the settings of the online phase and of the guard."""
    page = described(strategies)
    return (
        "\n\n".join(
            [
                "# Online settings",
                "Settings of the online phase, `online.NAME=VALUE`. A hyperparameter of the algorithm can "
                "have another value online, too: `online.actor_lr=1e-4`.",
                settings_table("`online.`", page["online_settings"]),
                "## Guard",
                "Settings of [`--guard`](../online.md#the-guard), `guard.NAME=VALUE`.",
                settings_table("`guard.`", page["guard"]),
            ]
        )
        + "\n"
    )
