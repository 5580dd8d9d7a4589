"""The catalogue of algorithms: strings only, so that reading it imports none of them."""

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from datasets_io.imports import import_object
from off2on.errors import UnknownName

if TYPE_CHECKING:
    from off2on.rllib.algorithm import OfflineToOnline


@dataclass(frozen=True)
class Entry:
    """Entry of an algorithm in the catalogue.

    Attributes:
        target: ``package.module:Class``.
        family: Family under which it is listed.
        paper: Authors, year and arXiv number.
        summary: One line.
        paper_options: Options of ``off2on train`` for the online phase of the paper, if it has one.
    """

    target: str
    family: str
    paper: str
    summary: str
    paper_options: str = ""


CATALOGUE = {
    "bc": Entry("off2on.algorithms.bc:BC", "imitation", "Pomerleau 1991", "behaviour cloning"),
    "filtered_bc": Entry(
        "off2on.algorithms.filtered_bc:FilteredBC",
        "imitation",
        "Chen et al. 2021, arXiv:2106.01345",
        "behaviour cloning of the tenth of the episodes with the highest return",
    ),
    "td3_bc": Entry(
        "off2on.algorithms.td3_bc:TD3BC",
        "policy constraint",
        "Fujimoto & Gu 2021, arXiv:2106.06860",
        "TD3 with a behaviour cloning term in the policy's loss",
    ),
    "rebrac": Entry(
        "off2on.algorithms.rebrac:ReBRAC",
        "policy constraint",
        "Tarasov et al. 2023, arXiv:2305.09836",
        "TD3 with a penalty on the distance to the data's actions, in actor and critic",
    ),
    "ispi_s": Entry(
        "off2on.algorithms.ispi_s:ISPIS",
        "policy constraint",
        "Hu et al. 2023, arXiv:2306.05726",
        "TD3+BC that is also regularised towards its previous policy",
    ),
    "ispi_c": Entry(
        "off2on.algorithms.ispi_c:ISPIC",
        "policy constraint",
        "Hu et al. 2023, arXiv:2306.05726",
        "two TD3+BC policies, each regularised towards the other where that has the higher value",
    ),
    "bcq": Entry(
        "off2on.algorithms.bcq:BCQ",
        "policy constraint",
        "Fujimoto et al. 2019, arXiv:1812.02900",
        "Q-learning over actions proposed by a generative model of the data",
    ),
    "bear": Entry(
        "off2on.algorithms.bear:BEAR",
        "policy constraint",
        "Kumar et al. 2019, arXiv:1906.00949",
        "actor-critic with a bound on the MMD between the policy's and the data's actions",
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
        "alternates regression of values on returns and advantage-weighted behaviour cloning",
    ),
    "iql": Entry(
        "off2on.algorithms.iql:IQL",
        "value regularisation",
        "Kostrikov et al. 2022, arXiv:2110.06169",
        "expectile regression of values on the data's actions, advantage-weighted cloning",
    ),
    "cql": Entry(
        "off2on.algorithms.cql:CQL",
        "value regularisation",
        "Kumar et al. 2020, arXiv:2006.04779",
        "SAC with a penalty on the values of actions that are not in the data",
    ),
    "crr": Entry(
        "off2on.algorithms.crr:CRR",
        "value regularisation",
        "Wang et al. 2020, arXiv:2006.15134",
        "behaviour cloning weighted by the advantage over the policy's own actions",
    ),
    "fql": Entry(
        "off2on.algorithms.fql:FQL",
        "flow policy",
        "Park et al. 2025, arXiv:2502.02538",
        "a policy in one step, distilled from a flow of the data's actions while it maximises Q",
    ),
    "ifql": Entry(
        "off2on.algorithms.ifql:IFQL",
        "flow policy",
        "Park et al. 2025, arXiv:2502.02538",
        "IQL's values, and the best of N actions of a flow that imitates the data",
    ),
    "bfn": Entry(
        "off2on.algorithms.bfn:BFN",
        "flow policy",
        "Li et al. 2025, arXiv:2507.07969",
        "the best of N actions of a flow that imitates the data, by a critic trained with them",
    ),
    "uwac": Entry(
        "off2on.algorithms.uwac:UWAC",
        "uncertainty",
        "Wu et al. 2021, arXiv:2105.08140",
        "BEAR with targets and policy loss weighted by the critics' dropout uncertainty",
    ),
    "sac_n": Entry(
        "off2on.algorithms.sac_n:SACN",
        "uncertainty",
        "An et al. 2021, arXiv:2110.01548",
        "SAC that uses the minimum over many critics",
    ),
    "edac": Entry(
        "off2on.algorithms.edac:EDAC",
        "uncertainty",
        "An et al. 2021, arXiv:2110.01548",
        "SAC-N with a penalty on the similarity of the critics' action gradients; needs fewer critics",
    ),
    "redq": Entry(
        "off2on.algorithms.redq:REDQ",
        "uncertainty",
        "Chen et al. 2021, arXiv:2101.05982",
        "SAC with the minimum over a random subset of many critics, for many updates per step",
    ),
    "mopo": Entry(
        "off2on.algorithms.mopo:MOPO",
        "model-based",
        "Yu et al. 2020, arXiv:2005.13239",
        "SAC on model rollouts with a reward penalty for the model's uncertainty",
    ),
    "combo": Entry(
        "off2on.algorithms.combo:COMBO",
        "model-based",
        "Yu et al. 2021, arXiv:2102.08363",
        "CQL on recorded and synthetic transitions",
    ),
    "e2o": Entry(
        "off2on.algorithms.e2o:E2O",
        "offline-to-online",
        "Zhao et al. 2024, arXiv:2306.06871",
        "CQL with many critics; online pairwise minimum targets and optimistic exploration",
        "--strategy online_only online.warm_up=1000",
    ),
    "awac": Entry(
        "off2on.algorithms.awac:AWAC",
        "offline-to-online",
        "Nair et al. 2020, arXiv:2006.09359",
        "actor-critic with advantage-weighted cloning, the same offline and online",
        "--strategy append",
    ),
    "pex": Entry(
        "off2on.algorithms.pex:PEX",
        "offline-to-online",
        "Zhang et al. 2023, arXiv:2302.00935",
        "IQL; online its policy is frozen and a second one is trained, the critics choose",
        "--strategy symmetric online.warm_up=5000",
    ),
    "cal_ql": Entry(
        "off2on.algorithms.cal_ql:CalQL",
        "offline-to-online",
        "Nakamoto et al. 2023, arXiv:2303.05479",
        "CQL with values bounded from below by the recorded return to go",
        "--strategy symmetric",
    ),
    "bred": Entry(
        "off2on.algorithms.bred:BRED",
        "offline-to-online",
        "Lee et al. 2021, arXiv:2107.00591",
        "an ensemble of CQL agents, merged online into one policy",
        "--strategy balanced online.burst=5",
    ),
    "rlpd": Entry(
        "off2on.algorithms.rlpd:RLPD",
        "offline-to-online",
        "Ball et al. 2023, arXiv:2302.02948",
        "SAC with normalised critics, trained online from scratch with offline data in every batch",
        "--updates 0 --strategy rlpd",
    ),
    "sac": Entry(
        "off2on.algorithms.sac:SAC",
        "backbone",
        "Haarnoja et al. 2018, arXiv:1812.05905",
        "entropy-regularised off-policy actor-critic; not meant for offline data by itself",
    ),
    "td3": Entry(
        "off2on.algorithms.td3:TD3",
        "backbone",
        "Fujimoto et al. 2018, arXiv:1802.09477",
        "DDPG with twin critics, target policy smoothing and delayed policy updates",
    ),
    "ddpg": Entry(
        "off2on.algorithms.ddpg:DDPG",
        "backbone",
        "Lillicrap et al. 2016, arXiv:1509.02971",
        "Q-learning with a deterministic policy network for the maximising action",
    ),
    "dqn": Entry(
        "off2on.algorithms.dqn:DQN",
        "discrete",
        "Mnih et al. 2015, arXiv:1312.5602",
        "Q-learning on the values of all actions, with a target network",
    ),
    "double_dqn": Entry(
        "off2on.algorithms.double_dqn:DoubleDQN",
        "discrete",
        "van Hasselt et al. 2016, arXiv:1509.06461",
        "DQN with the next action selected by the critic and evaluated by the target network",
    ),
    "discrete_bc": Entry(
        "off2on.algorithms.discrete_bc:DiscreteBC",
        "discrete",
        "Pomerleau 1991",
        "behaviour cloning by classification",
    ),
    "discrete_bcq": Entry(
        "off2on.algorithms.discrete_bcq:DiscreteBCQ",
        "discrete",
        "Fujimoto et al. 2019, arXiv:1910.01708",
        "Double DQN restricted to actions that are probable in the data",
    ),
    "discrete_cql": Entry(
        "off2on.algorithms.discrete_cql:DiscreteCQL",
        "discrete",
        "Kumar et al. 2020, arXiv:2006.04779",
        "Double DQN with a penalty on the values of actions that are not in the data",
    ),
    "discrete_sac": Entry(
        "off2on.algorithms.discrete_sac:DiscreteSAC",
        "discrete",
        "Christodoulou 2019, arXiv:1910.07207",
        "SAC with exact expectations over discrete actions",
    ),
}


def find_algorithm(name: str) -> "type[OfflineToOnline]":
    """Return the class of a catalogue name, of another package's entry point, or of ``module:Class``.

    Raises:
        UnknownName: There is no such class, or it is not an `OfflineToOnline`.
    """
    plugged = {point.name: point.value for point in entry_points(group="off2on.algorithms")}
    target = CATALOGUE[name].target if name in CATALOGUE else plugged.get(name, name)
    if ":" not in target:
        known = [*CATALOGUE, *plugged]
        raise UnknownName(
            f"no algorithm is called '{name}'.",
            f"All: {' '.join(known)}, or package.module:Class.",
            given=name,
            known=known,
        )
    from off2on.rllib.algorithm import OfflineToOnline

    found: type[OfflineToOnline] = import_object(target, OfflineToOnline)
    return found
