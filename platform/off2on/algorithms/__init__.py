"""The catalogue of algorithms: strings only, so that reading it imports none of them."""

import importlib
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from off2on.errors import UnknownName, nearest

if TYPE_CHECKING:
    from off2on.rllib.algorithm import OfflineToOnline


@dataclass(frozen=True)
class Entry:
    """What the catalogue says of an algorithm."""

    target: str
    family: str
    paper: str
    summary: str


CATALOGUE = {
    "bc": Entry("off2on.algorithms.bc:BC", "imitation", "Pomerleau 1991", "copy the data"),
    "filtered_bc": Entry(
        "off2on.algorithms.filtered_bc:FilteredBC",
        "imitation",
        "Chen et al. 2021, arXiv:2106.01345",
        "copy the best tenth of the episodes",
    ),
    "td3_bc": Entry(
        "off2on.algorithms.td3_bc:TD3BC",
        "policy constraint",
        "Fujimoto & Gu 2021, arXiv:2106.06860",
        "TD3, pulled towards the data's actions",
    ),
    "rebrac": Entry(
        "off2on.algorithms.rebrac:ReBRAC",
        "policy constraint",
        "Tarasov et al. 2023, arXiv:2305.09836",
        "TD3 that is penalised for leaving the data, in the actor and in the critic",
    ),
    "ispi_s": Entry(
        "off2on.algorithms.ispi_s:ISPIS",
        "policy constraint",
        "Hu et al. 2023, arXiv:2306.05726",
        "TD3+BC that also stays near the policy it has just been",
    ),
    "ispi_c": Entry(
        "off2on.algorithms.ispi_c:ISPIC",
        "policy constraint",
        "Hu et al. 2023, arXiv:2306.05726",
        "two of TD3+BC's policies, each drawn to the other where the other is better",
    ),
    "bcq": Entry(
        "off2on.algorithms.bcq:BCQ",
        "policy constraint",
        "Fujimoto et al. 2019, arXiv:1812.02900",
        "Q-learning over actions that a generative model of the data proposes",
    ),
    "bear": Entry(
        "off2on.algorithms.bear:BEAR",
        "policy constraint",
        "Kumar et al. 2019, arXiv:1906.00949",
        "an actor-critic whose policy stays on the support of the data's actions",
    ),
    "plas": Entry(
        "off2on.algorithms.plas:PLAS",
        "policy constraint",
        "Zhou et al. 2020, arXiv:2011.07213",
        "a policy over the latent actions of a generative model of the data",
    ),
    "awr": Entry(
        "off2on.algorithms.awr:AWR",
        "policy constraint",
        "Peng et al. 2019, arXiv:1910.00177",
        "values of returns, then copy the actions that beat them, in turn",
    ),
    "iql": Entry(
        "off2on.algorithms.iql:IQL",
        "value regularisation",
        "Kostrikov et al. 2022, arXiv:2110.06169",
        "values from the data's own actions, then copy the better ones",
    ),
    "cql": Entry(
        "off2on.algorithms.cql:CQL",
        "value regularisation",
        "Kumar et al. 2020, arXiv:2006.04779",
        "SAC whose critics are pushed down where the data is silent",
    ),
    "crr": Entry(
        "off2on.algorithms.crr:CRR",
        "value regularisation",
        "Wang et al. 2020, arXiv:2006.15134",
        "copy what the critic prefers to the policy's own actions",
    ),
    "uwac": Entry(
        "off2on.algorithms.uwac:UWAC",
        "uncertainty",
        "Wu et al. 2021, arXiv:2105.08140",
        "BEAR that trusts a target the less, the less sure the critics are",
    ),
    "sac_n": Entry(
        "off2on.algorithms.sac_n:SACN",
        "uncertainty",
        "An et al. 2021, arXiv:2110.01548",
        "SAC that believes the most pessimistic of many critics",
    ),
    "edac": Entry(
        "off2on.algorithms.edac:EDAC",
        "uncertainty",
        "An et al. 2021, arXiv:2110.01548",
        "SAC-N whose critics must disagree about where a better action lies, so that few do",
    ),
    "redq": Entry(
        "off2on.algorithms.redq:REDQ",
        "uncertainty",
        "Chen et al. 2021, arXiv:2101.05982",
        "SAC on the minimum over a random pair of many critics, made for many updates per step",
    ),
    "mopo": Entry(
        "off2on.algorithms.mopo:MOPO",
        "model-based",
        "Yu et al. 2020, arXiv:2005.13239",
        "SAC on a learned model's rollouts, whose rewards fall where the model is unsure",
    ),
    "combo": Entry(
        "off2on.algorithms.combo:COMBO",
        "model-based",
        "Yu et al. 2021, arXiv:2102.08363",
        "CQL on recorded and imagined rows, pushed down on the model's, held up on the data's",
    ),
    "e2o": Entry(
        "off2on.algorithms.e2o:E2O",
        "offline-to-online",
        "Zhao et al. 2024, arXiv:2306.06871",
        "CQL with many critics, which online believe each other in pairs and explore where they differ",
    ),
    "awac": Entry(
        "off2on.algorithms.awac:AWAC",
        "offline-to-online",
        "Nair et al. 2020, arXiv:2006.09359",
        "an actor-critic that copies the better actions, offline and online alike",
    ),
    "pex": Entry(
        "off2on.algorithms.pex:PEX",
        "offline-to-online",
        "Zhang et al. 2023, arXiv:2302.00935",
        "IQL whose policy is kept when it goes online, and given a companion that learns",
    ),
    "cal_ql": Entry(
        "off2on.algorithms.cal_ql:CalQL",
        "offline-to-online",
        "Nakamoto et al. 2023, arXiv:2303.05479",
        "CQL that pushes no value below what the data's own policy was seen to get",
    ),
    "bred": Entry(
        "off2on.algorithms.bred:BRED",
        "offline-to-online",
        "Lee et al. 2021, arXiv:2107.00591",
        "several CQL agents, merged online into one that all their critics improve",
    ),
    "rlpd": Entry(
        "off2on.algorithms.rlpd:RLPD",
        "offline-to-online",
        "Ball et al. 2023, arXiv:2302.02948",
        "SAC from scratch, recorded data in every batch, normalised critics",
    ),
    "sac": Entry(
        "off2on.algorithms.sac:SAC",
        "backbone",
        "Haarnoja et al. 2018, arXiv:1812.05905",
        "off-policy actor-critic paid for randomness; alone, not meant for offline data",
    ),
    "td3": Entry(
        "off2on.algorithms.td3:TD3",
        "backbone",
        "Fujimoto et al. 2018, arXiv:1802.09477",
        "DDPG with twin critics, smoothed targets and a policy that waits",
    ),
    "ddpg": Entry(
        "off2on.algorithms.ddpg:DDPG",
        "backbone",
        "Lillicrap et al. 2016, arXiv:1509.02971",
        "Q-learning where a policy network finds the best action",
    ),
    "dqn": Entry(
        "off2on.algorithms.dqn:DQN",
        "discrete",
        "Mnih et al. 2015, arXiv:1312.5602",
        "Q-learning on the values of all actions, with a copy that stands still for a while",
    ),
    "double_dqn": Entry(
        "off2on.algorithms.double_dqn:DoubleDQN",
        "discrete",
        "van Hasselt et al. 2016, arXiv:1509.06461",
        "DQN whose next action is chosen by the critic and valued by its copy",
    ),
    "discrete_bc": Entry(
        "off2on.algorithms.discrete_bc:DiscreteBC",
        "discrete",
        "Pomerleau 1991",
        "copy the data's discrete actions",
    ),
    "discrete_bcq": Entry(
        "off2on.algorithms.discrete_bcq:DiscreteBCQ",
        "discrete",
        "Fujimoto et al. 2019, arXiv:1910.01708",
        "Double DQN among the actions that the data might have taken",
    ),
    "discrete_cql": Entry(
        "off2on.algorithms.discrete_cql:DiscreteCQL",
        "discrete",
        "Kumar et al. 2020, arXiv:2006.04779",
        "Double DQN whose values are pushed down where the data is silent",
    ),
    "discrete_sac": Entry(
        "off2on.algorithms.discrete_sac:DiscreteSAC",
        "discrete",
        "Christodoulou 2019, arXiv:1910.07207",
        "SAC whose expectations over actions are sums",
    ),
}


def find_algorithm(name: str) -> "type[OfflineToOnline]":
    """The class of a catalogue name, of another package's entry point, or of ``module:Class``.

    Raises:
        UnknownName: There is none, or it is not an `OfflineToOnline`.
    """
    plugged = {point.name: point.value for point in entry_points(group="off2on.algorithms")}
    target = CATALOGUE[name].target if name in CATALOGUE else plugged.get(name, name)
    module, _, attribute = target.partition(":")
    if not attribute:
        known = [*CATALOGUE, *plugged]
        raise UnknownName(
            f"no algorithm is called '{name}'.",
            f"{nearest(name, known)}All: {' '.join(known)}, or package.module:Class.",
        )
    from off2on.rllib.algorithm import OfflineToOnline

    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownName(
            f"'{name}' cannot be imported: {error}.", "Expected package.module:Class."
        ) from None
    if not (isinstance(found, type) and issubclass(found, OfflineToOnline)):
        raise UnknownName(
            f"'{name}' is not an algorithm.", "Expected a subclass of off2on.rllib.algorithm.OfflineToOnline."
        )
    return found
