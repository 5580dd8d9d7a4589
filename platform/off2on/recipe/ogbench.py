"""The settings that one code base uses for several algorithms on OGBench's data.

https://github.com/ColinQiyangLi/qam, of "Q-learning with Adjoint Matching", arXiv:2601.14234.
"""


def common_preset(domain: str, **values: object) -> dict[str, object]:
    """Return a preset of these values and the common ones for a family of data sets.

    Args:
        domain: Beginning of the names of the data sets, such as ``humanoidmaze-medium-navigate``.
        **values: The algorithm's own values.
    """
    far = {"discount": 0.995} if "giant" in domain or "humanoid" in domain else {}
    return values | far | ({"aggregate": "mean"} if "humanoid" in domain else {})
