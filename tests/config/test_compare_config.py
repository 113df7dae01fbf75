"""The settings of `pmc compare`: what is read, searched and refused, and those that are shipped."""

import json
from pathlib import Path

import pytest

from pmc_jax.compare.runs import runs_of
from pmc_jax.config.compare import CompareConfig, load_compare
from pmc_jax.errors import UserError

ROOT = Path(__file__).parents[2]
RUN = {
    "model": {"path": "model"},
    "data": {"forget": "f.jsonl", "retain": "r.jsonl", "forget_answers": "f.jsonl"},
    "pmc": {"schedule": {"epochs": 9}},
    "finetune": {"data": ["f.jsonl", "r.jsonl"]},
}
PLAIN = {"run": RUN, "methods": {"pmc": {}, "npo": {}}, "output": {"dir": "out"}}
RATES = {"train.learning_rate": [1e-5, 2e-5, 5e-5]}


@pytest.fixture
def load(tmp_path):
    def load(*overrides, **sections):
        path = tmp_path / "compare.yaml"
        path.write_text(json.dumps(PLAIN | sections))
        return load_compare(path, overrides)

    return load


@pytest.fixture
def refuse(load):
    def refuse(*overrides, **sections):
        with pytest.raises(UserError) as caught:
            load(*overrides, **sections)
        assert "\n" not in str(caught.value) and "compare.yaml" in str(caught.value)
        return str(caught.value)

    return refuse


def test_a_run_has_its_own_method_seed_time_and_folder(load):
    compare = load(
        max_seconds=60,
        at_seconds=[20, 40],
        seeds=[3, 4],
        settings={"train.decay": "none", "evaluate": {"leakage": {"num_samples": 7}}},
        methods={"pmc": {"settings": {"pmc.schedule.epochs": 5}}, "npo": {}},
    )
    runs = runs_of(compare)
    assert [run.name for run in runs] == ["pmc-seed3", "npo-seed3", "pmc-seed4", "npo-seed4"]
    assert [run.config.pmc.schedule.epochs for run in runs] == [5, 9, 5, 9]
    for run in runs:
        config = run.config
        assert config.method.name == run.entry and config.method.max_seconds == 60
        assert config.evaluate.at_seconds == (20, 40) and config.evaluate.leakage.num_samples == 7
        assert config.evaluate.measures == () and config.train.decay == "none"
        assert config.seed == run.seed and not config.output.checkpoint_end
        assert config.model.path == "out/target" and not config.finetune.data
        assert config.output.dir == f"out/runs/{run.name}"


def test_without_fine_tuning_the_model_itself_is_the_target(load):
    (run, _) = runs_of(load("run.finetune=null"))
    assert run.config.model.path == "model"


def test_a_list_is_a_search_space_and_trials_are_drawn_of_it(load):
    space = {**RATES, "pmc.schedule.lambda_retain": [1.0, 2.0]}
    compare = load(methods={"pmc": {"settings": space}, "npo": {}})
    combinations = compare.trials_of("pmc")
    assert len(combinations) == 6 and len({json.dumps(trial) for trial in combinations}) == 6
    assert combinations[1] == {"train.learning_rate": 1e-5, "pmc.schedule.lambda_retain": 2.0}
    names = [run.name for run in runs_of(compare)]
    assert names == [*(f"pmc-{i}-seed0" for i in range(6)), "npo-seed0"]
    drawn = {"pmc": {"settings": space, "num_trials": 3}, "npo": {"settings": RATES}}
    for seed in range(4):
        some = load(methods=drawn, search={"seed": seed})
        trials = some.trials_of("pmc")
        assert trials == load(methods=drawn, search={"seed": seed}).trials_of("pmc")
        assert len(trials) == 3 and all(trial in combinations for trial in trials)
        assert len({json.dumps(trial) for trial in trials}) == 3
    chosen = [load(methods=drawn, search={"seed": s}).trials_of("pmc") for s in range(9)]
    assert any(trials != chosen[0] for trials in chosen)


def test_one_method_may_stand_under_several_names(load):
    gentle = {"method": "pmc", "settings": {"train.learning_rate": 1e-6}}
    compare = load(methods={"pmc": {}, "gentle": gentle})
    assert [run.config.method.name for run in runs_of(compare)] == ["pmc", "pmc"]


def test_overrides_meet_both_ways_to_write_a_name(load):
    settings = {"pmc.schedule.epochs": 2}
    assert load("settings.pmc.schedule.epochs=3", settings=settings).base().pmc.schedule.epochs == 3
    assert load("run.pmc.schedule.epochs=4").base().pmc.schedule.epochs == 4
    compare = load("methods.npo.settings.method.beta=[0.1, 0.5]")
    assert compare.trials_of("npo") == [{"method.beta": 0.1}, {"method.beta": 0.5}]


def test_run_may_be_a_file_beside(load, tmp_path):
    (tmp_path / "run.yaml").write_text(json.dumps(RUN))
    assert load(run="run.yaml").base().pmc.schedule.epochs == 9
    assert load("run.pmc.schedule.epochs=4", run="run.yaml").base().pmc.schedule.epochs == 4


def test_unequal_budgets_are_refused_but_of_methods_that_are_not_searched(refuse, load):
    three = {"settings": RATES}
    two = {"settings": {"train.learning_rate": [1e-5, 2e-5]}}
    message = refuse(methods={"pmc": three, "npo": two, "retain_only": {}})
    assert (
        "different numbers of combinations" in message and "pmc 3, npo 2, retain_only 1" in message
    )
    load(methods={"pmc": three, "npo": three, "retain_only": {}})
    load(methods={"pmc": three | {"num_trials": 2}, "npo": two})


@pytest.mark.parametrize(
    ("sections", "parts"),
    [
        ({"methods": {}}, ["methods: no method is given. Add at least one of pmc"]),
        ({"methods": {"npp": {}}}, ["methods.npp: no method has this name.", "Did you mean npo?"]),
        (
            {"methods": {"a-b": {"method": "pmc"}}},
            ["methods.a-b: the name of an entry may contain only"],
        ),
        ({"methods": {"pmc": {"num_trials": 2}}}, ["methods.pmc.num_trials: at most 1 of"]),
        (
            {"methods": {"pmc": {"settings": {"train.learning_rat": 1}}}},
            [
                "methods.pmc.settings.train.learning_rat: this setting is unknown.",
                "train.learning_rate",
            ],
        ),
        (
            {"methods": {"pmc": {"settings": {"train.learning_rate": [1e-5, -1]}}}},
            ["methods.pmc.settings.train.learning_rate: the value must be a number above 0"],
        ),
        (
            {"methods": {"pmc": {"settings": {"train.learning_rate": []}}}},
            ["methods.pmc.settings.train.learning_rate: the list is empty."],
        ),
        (
            {
                "methods": {
                    "pmc": {"settings": {"evaluate.leakage.num_samples": 3, "method.name": "npo"}}
                }
            },
            [
                "settings.evaluate.leakage.num_samples: methods may differ only in",
                "settings.method.name: the comparison sets this value itself.",
            ],
        ),
        ({"settings": {"seed": 3}}, ["settings.seed: the comparison sets this value itself."]),
        ({"settings": {"evaluate": {"every": 3}}}, ["settings.evaluate.every: the comparison"]),
        (
            {"settings": {"pmc.epoch": 3}},
            ["run.pmc.epoch: this setting is unknown. Did you mean pmc.schedule.epochs"],
        ),
        ({"max_seconds": 0}, ["max_seconds: the value must be a number above 0"]),
        (
            {"at_seconds": [120]},
            ["at_seconds: the value must be above 0 and below max_seconds (120)"],
        ),
        (
            {"seeds": [1, 1]},
            ["seeds: the list must contain at least one seed and no seed twice, but it is [1, 1]."],
        ),
        ({"seeds": []}, ["seeds: the list must contain at least one seed"]),
        ({"measures": ["sampled"]}, ["measures.0: the value must be one of", "'sampled'"]),
        ({"run": RUN | {"data": {}}}, ["run.data.forget_answers.path: no path is given", "npo"]),
        ({"run": 3}, ["run: the value must be a mapping"]),
        (
            {"reference": {"data": "r", "path": "x"}},
            ["reference.path: both path and data are given."],
        ),
        ({"reference": {"seeds": 5}}, ["reference.seeds: no rows are given", "never_saw"]),
        ({"controls": ["pcm"]}, ["controls: no entry of methods has the name pcm.", "pmc?"]),
        (
            {"search": {"criterion": "best"}},
            ["search.criterion: the value must be one of mean, harmonic_mean, min"],
        ),
        ({"method": {}}, ["method: this setting is unknown. Did you mean methods?"]),
    ],
)
def test_faults_are_one_line_that_names_them(sections, parts, refuse):
    message = refuse(**sections)
    for part in parts:
        assert part in message, message


def test_a_reference_is_made_beside_a_target(refuse):
    message = refuse("run.finetune=null", reference={"data": "r.jsonl"})
    assert "reference.data: run.finetune.data is empty" in message


def test_a_search_space_without_bounds_is_refused(refuse):
    many = {name: list(range(1, 40)) for name in ("pmc.schedule.epochs", "train.batch_size")}
    assert "at most 1000 of the 1521" in refuse(methods={"pmc": {"settings": many}})


SHIPPED = sorted(
    path
    for path in (ROOT / "configs").glob("*.yaml")
    if path.name.startswith(("compare_", "search_"))
)


def test_what_is_shipped():
    assert [path.stem for path in SHIPPED] == [
        *("compare_answers", "compare_people", "compare_tofu_mini"),
        *("search_people", "search_tofu_mini"),
    ]
    methods = ["pmc", "npo", "simnpo", "gradient_difference", "idk", "retain_only"]
    comparisons = {path.stem: load_compare(path) for path in SHIPPED}
    answers = comparisons.pop("compare_answers")
    assert [answers.method_of(name) for name in ("own", "abstain", "unseen")] == ["pmc"] * 3
    assert all(list(compare.methods) == methods for compare in comparisons.values())
    people, tofu = comparisons["compare_people"], comparisons["compare_tofu_mini"]
    assert (people.seeds, people.max_seconds) == ((0, 1, 2), 120)
    assert (len(tofu.seeds), tofu.max_seconds) == (1, 600)
    for name, of in (("search_people", people), ("search_tofu_mini", tofu)):
        search = comparisons[name]
        assert search.run == of.run and search.max_seconds == of.max_seconds
        assert not set(search.seeds) & set(of.seeds)
        assert len({len(search.trials_of(method)) for method in methods}) == 1
        assert len(search.trials_of("pmc")) > 1


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_settings_have_all_that_a_comparison_needs(path):
    compare = load_compare(path)
    assert compare.output.dir and len({run.name for run in runs_of(compare)}) == len(
        runs_of(compare)
    )
    base = compare.base()
    assert {"forget", "forget_paraphrased", "retain"} <= set(base.data.evaluate)
    # The last step is known where every method says how many epochs fit into the time.
    fitted = all("pmc.schedule.epochs" in entry.settings for entry in compare.methods.values())
    assert base.train.decay == "none" or fitted


def test_built_in_code(tmp_path):
    compare = CompareConfig(run=RUN, methods={"pmc": {}}, output={"dir": str(tmp_path)})
    assert compare.trials_of("pmc") == [{}]
