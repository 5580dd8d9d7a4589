"""Check that the map of column names agrees with the modules that use it."""

from datasets_io import Shards, column_names
from datasets_io.shards.columns import FIXED_COLUMNS
from datasets_io.shards.reading import DERIVED
from off2on.recipe.hyperparameters import Hyperparameters
from off2on.replay.transforms import Transforms


def test_every_shard_column_is_stored_or_derived():
    names = {column.shard for column in column_names.COLUMNS}
    assert names <= {*FIXED_COLUMNS, *DERIVED}
    assert set(column_names.TRANSITION) <= names


def test_every_learner_column_is_made_of_a_shard_column(wide: Shards):
    read = wide.read_all([*column_names.SHARD_COLUMNS.values()])
    assert all(len(read[shard]) == wide.rows for shard in column_names.SHARD_COLUMNS.values())
    learner = {*column_names.STEP_COLUMNS, *column_names.EPISODE_COLUMNS}
    assert {*column_names.SHARD_COLUMNS, "ret"} == learner


def test_transforms_give_the_learner_columns(wide: Shards):
    raw = wide.read_all([*column_names.TRANSITION, "new_actions"])
    made = Transforms.of(wide, Hyperparameters()).apply(raw)
    assert {*made} == {*column_names.STEP_COLUMNS, "next_action"}


def test_a_spelling_belongs_to_one_column():
    spellings = [name for names in column_names.SPELLINGS.values() for name in names]
    assert len(spellings) == len(set(spellings))
    assert all(column.shard in column.spellings for column in column_names.COLUMNS if column.role)
