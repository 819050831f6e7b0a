"""Overrides as they are typed: texts arrive to the letter, and what is taken away, given twice or read by nothing is
refused."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fineface_train.cli import VERBS, main
from fineface_train.compose import choices_of, combinations, load_config, read_given
from fineface_train.config import EVERYTHING, with_method
from fineface_train.hydra_calls import multirun
from fineface_train.methods.au_diffusion.config import Method
from fineface_train.overrides import Kind, kind_of, known_keys, read_overrides
from fineface_train.places import CONFIGS
from fineface_train.reads import ASKED, READS, SWEEP, is_read
from fineface_train.verbs.sweep_arms import read_arms

SCHEMA = with_method(EVERYTHING, Method, Method.family)
LETTERS = [
    'a ${seed} \\ "x" {y} [z] a=b, c',
    "C:\\faces\\",
    "\\\\ and \\${seed}",
    "???",
    "'single' and \"double\"",
    '"quoted"',
    "two\nlines",
    "Übung, 人, 🙂",
    "1e5",
    "0x10",
    "~/not a folder",
    "as_given_61_",
    " blanks around ",
    "null and void",
    "",
]
NAMES = [
    "2024_01",
    "1e5",
    "0x10",
    "1_000",
    "01",
    "007",
    "true",
    "False",
    "2024-01-31",
    "1.50",
    "nan",
    "on",
    "1e400",
    "None",
]


@pytest.mark.parametrize("text", LETTERS)
def test_a_prompt_arrives_as_it_was_given(text: str) -> None:
    assert load_config([f"prompt={text}"], "generate").prompt == text


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=30).filter(lambda text: text != "null"))
def test_any_prompt_arrives_as_it_was_given(text: str) -> None:
    assert load_config([f"prompt={text}"]).prompt == text


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "key",
    ["run.name", "data.name", "tracking.group", "tracking.arm", "comparison.reference", "method.base.name", "out"],
)
def test_a_name_is_no_number(key: str, name: str) -> None:
    value: object = load_config([f"{key}={name}"])
    for part in key.split("."):
        value = getattr(value, part)
    assert value == name


def test_every_text_of_the_config_arrives_as_it_was_given() -> None:
    """By its type: of a field that is added later too. Those that are not a free choice are refused by name, and not
    rewritten."""
    texts = [key for key in known_keys(SCHEMA) if key != "method.family" and kind_of(key, "", [SCHEMA]) is Kind.text]
    assert len(texts) > 40
    for key in texts:
        try:
            value: object = load_config(
                ["data=disfa_affectnet", f"{key}=01_e5"] if key.startswith("data.") else [f"{key}=01_e5"]
            )
        except ValueError as error:
            assert "01_e5" in str(error) or "null here" in str(error), key
            continue
        for part in key.split("."):
            value = getattr(value, part)
        assert value == "01_e5", key


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("[01,2024_01,1e5,true]", ["01", "2024_01", "1e5", "true"]),
        ('["a, b", c d , it\'s]', ["a, b", "c d", "it's"]),
        ("[${seed}]", ["${seed}"]),
        ("['a'b, '[x]' ]", ["'a'b", "[x]"]),
        ("[]", []),
    ],
)
def test_texts_in_a_list_are_no_numbers(value: str, expected: list[str]) -> None:
    assert load_config([f"tracking.tags={value}"]).tracking.tags == expected


@pytest.mark.parametrize("value", ["a", "01,02", '"[a]"', "{a}", "[[a]]", "[a,,b]", "[a", "[a]b", "[a],[b]", "'a','b'"])
def test_what_is_no_list_of_texts_is_refused_with_how_to_write_one(value: str) -> None:
    with pytest.raises(ValueError, match=r"is a list of texts, such as tracking\.tags=\[a,b\]"):
        load_config([f"tracking.tags={value}"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "seed=0,1",
            r"seed=0,1: are several values, which only a sweep takes \(fineface train -m seed=0,1 \.\.\.\); give one",
        ),
        ("encoder=none,mlp", "no such choice"),
        ("aus=null", "aus=null: must have a value; leave aus out for its default"),
        ("tracking.tags=null", r"tracking\.tags=null: must have a value"),
        ("method.sampling=null", r"method\.sampling=null: must have a value"),
    ],
)
def test_what_hydra_says_in_its_own_words_is_told_in_ours(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config([override])


def test_lists_are_several_in_a_sweep_also_with_brackets_in_quotes() -> None:
    arms = combinations(["tracking.tags=['[x]', \"a],[b\"] , [c]"])
    assert [load_config(arm).tracking.tags for arm in arms] == [["[x]", "a],[b"], ["c"]]


def test_none_quotes_and_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    config = load_config(
        [
            "run.name=null",
            "prompt=null",
            'tracking.group="a, b"',
            "data.disfa.root=~/DISFA",
            "method.conditioning.au_text={strength} {name}",
        ]
    )
    assert (config.run.name, config.prompt, config.tracking.group, config.data.disfa.root) == (
        None,
        None,
        "a, b",
        "/home/me/DISFA",
    )
    assert config.method.conditioning.au_text == "{strength} {name}"


def test_interpolations_of_the_presets_stay() -> None:
    config = load_config(["data.root=/a, [b]", "method.base.sampling_steps=7"])
    assert config.data.disfa is not None
    assert config.data.disfa.root == "/a, [b]/corpus/disfa"
    assert config.method.sampling.steps == 7


def test_a_sweep_has_the_texts_that_its_arms_have(tmp_path: Path) -> None:
    line = [
        'tracking.group="2024_01","${seed}, b"',
        "tracking.tags=[01],[1e5,x]",
        "method.finetune.prior_prompt=a, b",
        "method.finetune.prior_weight=1",
        "seed=0,1",
    ]
    arms, numbers = read_arms(line), []
    multirun(read_given(line), len(arms.each), tmp_path / "a b", numbers.append)
    assert numbers == list(range(8))
    seen = [(one.tracking.group, one.tracking.tags, one.method.finetune.prior_prompt, one.seed) for one in arms.configs]
    assert seen[0] == ("2024_01", ["01"], "a, b", 0)
    assert seen[-1] == ("${seed}, b", ["1e5", "x"], "a, b", 1)


@pytest.mark.parametrize("verb", ["train", "doctor"])
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        # Nothing is taken away or added, nothing given twice.
        (["~judge"], r"~judge: nothing is taken away here; .*such as judge=none"),
        (["~encoder"], r"~encoder: nothing is taken away here; choose one of individual, mlp"),
        (["~labels=fineface"], r"such as labels=none"),
        (["~finetune"], r"such as finetune=nothing"),
        (["~trainer.steps"], r"~trainer\.steps: nothing is taken away here; leave trainer\.steps out"),
        (["~data.toyfacs"], r"~data\.toyfacs: .*null where it may be none"),
        (["~trainer.step"], r"trainer\.step: no such config key; did you mean trainer\.steps"),
        (["judge=null"], "judge=null: no such choice; there are libreface, none, toyfacs"),
        (["experiment=null"], "experiment=null: no such choice; .*leave experiment out for none"),
        (["encoder="], "encoder=: no such choice; there are individual"),
        (["judge=[]"], r"judge=\[\]: no such choice; there are libreface"),
        (["judge=[toyfacs,none]"], r"judge=\[toyfacs,none\]: no such choice"),
        (["trainer={steps: 5}"], "no such choice; there are fineface, toyfacs"),
        (["run={name: 1e5}"], r"set its keys one by one, such as run\.root="),
        (["encoder@finetune=mlp"], "cannot be read"),
        (["hydra.job.chdir=true"], r"hydra\.job\.chdir=true: changes nothing here"),
        (["hydra.run.dir=x"], r"run\.root"),
        (["hydra.sweeper.params.seed=1"], "changes nothing here"),
        (["hydra/launcher=submitit_local"], r"does not read hydra/launcher \(what reads it: fineface train -m\)"),
        # Keys of other verbs.
        (["prompt=x"], r"prompt=x: fineface \w+ does not read prompt \(what reads it: fineface generate\)"),
        (["aus="], r"aus=: fineface \w+ does not read aus"),
        (["n=3"], "n=3: fineface"),
        (["bundle="], "bundle=: fineface"),
        (["any_base=true"], "what reads it: fineface generate, evaluate, calibrate"),
        (["sweep=table1"], r"sweep=table1: .*what reads it: fineface train -m, report"),
        (["comparison.name=x"], "what reads it: fineface train -m, report"),
        # Keys that the choices leave without a reader.
        (
            ["encoder=res_mlp64", "method.encoder.learned_null=true"],
            r"nothing reads method\.encoder\.learned_null with method\.encoder\.name=res_mlp64",
        ),
        (
            ["encoder=none", "method.encoder.hidden=8"],
            r"method\.encoder\.hidden=8: nothing reads method\.encoder\.hidden with method\.encoder\.name=none",
        ),
        (["encoder=mlp", "method.encoder.sum_tokens=true"], r"nothing reads method\.encoder\.sum_tokens"),
        (
            ["method.encoder.interaction_token=false", "method.encoder.hidden=8"],
            r"method\.encoder\.interaction_token=false",
        ),
        (
            ["finetune=nothing", "method.finetune.lora_rank=8"],
            r"method\.finetune\.lora_rank=8: nothing reads .* with method\.finetune\.train=nothing",
        ),
        (["method.finetune.base_rate=0.5"], r"with method\.finetune\.train=lora"),
        (["method.finetune.prior_images=3"], r"with method\.finetune\.prior_weight=0"),
        (
            ["method.conditioning.au_text={au}"],
            r"nothing reads method\.conditioning\.au_text with method\.conditioning\.enters=adapter",
        ),
        (["method=lora_t", "method.finetune.adapter_scale=0.5"], r"with method\.conditioning\.enters=text"),
        (
            ["method=lora_t", "encoder=mlp"],
            r"encoder=mlp: nothing reads encoder with method\.conditioning\.enters=text",
        ),
        (["method=lora_t", "labels=none"], r"labels=none: nothing reads labels with method\.conditioning\.enters=text"),
        (["method=sd", "image_transform=squash"], "image_transform=squash: nothing reads .*nothing is trained"),
        (["method=sd", "objective=none"], "objective=none: nothing reads"),
        (
            ["objective=none", "method.objective.gamma=3"],
            r"gamma=3: nothing reads method\.objective\.gamma with method\.objective\.weighting=none",
        ),
        (["labels=none", "labels.scope=batch"], r"nothing reads labels\.scope with labels\.rounding_probability=0"),
        (
            ["method.sampling.guidance=1", "method.sampling.negative=zero"],
            r"nothing reads method\.sampling\.negative with method\.sampling\.guidance=1",
        ),
        (["judge.libreface.device=cuda"], r"nothing reads judge\.libreface\.device with judge\.kind=toyfacs"),
        (["judge=none", "judge.clip=x"], r"nothing reads judge\.clip with judge\.kind=none"),
        (
            ["evaluation.after_training=false", "judge=libreface"],
            r"nothing reads judge with evaluation\.after_training=false",
        ),
        (["evaluation.after_training=false", "protocol=paper"], r"nothing reads protocol"),
        (["tracking.wandb=false", "tracking.project=x"], r"nothing reads tracking\.project with tracking\.wandb=false"),
        (
            ["base=sd21_random", "judge=none", "method.base.path=x"],
            r"nothing reads method\.base\.path with method\.base\.architecture=sd21_random",
        ),
        (["method.base.tokenizer=x"], r"nothing reads method\.base\.tokenizer"),
        (["data.blip2.batch_size=4"], r"nothing reads data\.blip2\.batch_size"),
        (["data.annotate.openface.min_confidence=0.5"], r"with data\.annotate\.kind=none"),
        (
            ["data=affectnet", "data.disfa.root=x"],
            r"data\.disfa\.root=x: data\.disfa is null here.*choose another data=NAME",
        ),
        # Values that take no effect together.
        (
            ["trainer.steps=10", "trainer.warmup_steps=11"],
            r"trainer\.warmup_steps=11: longer than the run \(trainer\.steps=10\)",
        ),
        (["trainer.warmup_steps=100000"], r"longer than the run \(trainer\.steps=800\)"),
    ],
    ids=lambda value: " ".join(value)[:70] if isinstance(value, list) else "",
)
def test_what_nothing_reads_is_refused(verb: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        load_config(overrides, verb)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("verb", "override", "message"),
    [
        ("generate", "encoder=mlp", "what reads it: fineface train, train -m, doctor"),
        ("generate", "trainer.steps=5", "fineface generate does not read trainer.steps"),
        ("generate", "judge=none", "evaluate, judge, calibrate"),
        ("generate", "method=sd", "does not read method"),
        ("evaluate", "data=toyfacs", "data=toyfacs: fineface evaluate does not read data"),
        ("evaluate", "prompt=x", "what reads it: fineface generate"),
        ("evaluate", "seed=1", "did you mean evaluation.seed"),
        ("prepare", "judge=none", "does not read judge"),
        ("prepare", "seed=1", "did you mean data.seed"),
        ("prepare", "base=sd21", "does not read base"),
        ("calibrate", "protocol=paper", "does not read protocol"),
        ("calibrate", "calibrated=true", "does not read calibrated"),
        ("report", "trainer.steps=5", "does not read trainer.steps"),
        ("report", "encoder=mlp", "does not read encoder"),
    ],
)
def test_keys_of_another_verb_are_refused(
    verb: str, override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, override]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "overrides"),
    [
        ("generate", ["base=sd21", "experiment=fineface", "method.sampling.guidance=5"]),
        ("evaluate", ["experiment=toyfacs", "judge.clip=x"]),
        ("prepare", ["experiment=fineface"]),
        ("train", ["experiment=fineface_published", "judge=none"]),
        ("train", ["method=plus_null", "encoder=res_mlp64"]),
        ("train", ["+seed=3", "seed=3", "++judge=none"]),
        ("train", ["trainer.steps=5", "trainer=fineface"]),
        ("generate", ["method.base.prompts=real", "method.base.path=x"]),
        *((verb, ["data.root=a", "run.root=b"]) for verb in VERBS),
    ],
)
def test_what_presets_set_beside_it_is_no_fault(verb: str, overrides: list[str]) -> None:
    load_config(overrides, verb)


def test_a_preset_that_warms_up_longer_than_the_run_is_told(caplog: pytest.LogCaptureFixture) -> None:
    load_config(["trainer.steps=5"], "train")
    assert (
        "trainer.warmup_steps=50: longer than the run (trainer.steps=5): the learning rate rises to 10%" in caplog.text
    )


def test_steps_of_a_method_that_trains_nothing_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """They are let pass, so that one command serves all methods."""
    load_config(["method=sd", "trainer.steps=5", "seed=1"], "train")
    assert "this method trains nothing" in caplog.text
    assert "trainer.steps=5 seed=1" in caplog.text


def test_a_key_given_twice_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert load_config(["seed=1", "judge=toyfacs", "++seed=2", "+judge=none", "n=1", "n=1"]).seed == 2
    assert [record.getMessage() for record in caplog.records] == [
        "seed is given twice, seed=1 and seed=2: the last counts",
        "judge is given twice, judge=toyfacs and judge=none: the last counts",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            ["encoder=none,res_mlp64", "method.encoder.hidden=8,16"],
            r"nothing reads method\.encoder\.hidden with method\.encoder\.name=none or method\.encoder\.name=res_mlp64",
        ),
        (["seed=0,1", "prompt=x"], "fineface train -m does not read prompt"),
        (["seed=0,1", "out=x"], r"does not read out \(what reads it: fineface train, generate"),
        (["trainer.steps=10,100", "trainer.warmup_steps=50"], "longer than the run"),
        (["seed=0,1", "~judge"], "nothing is taken away"),
    ],
)
def test_what_no_arm_of_a_sweep_reads_is_refused(line: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_arms([*line, f"run.root={tmp_path}"])
    assert not list(tmp_path.iterdir())


def test_what_one_arm_reads_is_no_fault(tmp_path: Path) -> None:
    begun: list[int] = []
    for line in (
        ["encoder=none,mlp", "method.encoder.hidden=8"],
        ["finetune=nothing,lora", "method.finetune.lora_rank=8"],
        ["sweep=table1", "trainer.steps=60", "seed=0,1"],
    ):
        begun.append(len(read_arms([*line, f"run.root={tmp_path}"]).each))
    assert begun == [2, 2, 10]


def test_every_verb_and_every_key_has_its_place() -> None:
    assert set(READS) == {*VERBS, SWEEP}
    roots = [field.name for field in dataclasses.fields(EVERYTHING)]
    groups = [path.name for path in CONFIGS.iterdir() if path.is_dir()]
    places = [f"method.{group}" if group in choices_of(Method) else group for group in groups]
    assert not [key for key in (*roots, *places) if not any(is_read(key, verb, Method) for verb in READS)]
    for keys in READS.values():
        assert all(key in (*groups, "hydra", ASKED) or key in known_keys(SCHEMA) for key in keys)


@pytest.mark.parametrize("verb", VERBS)
def test_help_lists_what_the_verb_reads_and_nothing_else(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    page = capsys.readouterr().out
    parts = ("trainer", "judge", "data", "method.sampling")
    shown = [part for part in parts if f"\n  {part} " in page]
    assert shown == [part for part in parts if is_read(part, verb, Method)]
    assert main([verb, "--help", shown[0]]) == 0 if shown else True
    out = page + capsys.readouterr().out
    keys = [line.strip().partition("=")[0] for line in out.splitlines() if line.startswith("  ") and "=" in line]
    assert [key for key in ("prompt", "bundle") if key in keys] == [
        key for key in ("prompt", "bundle") if is_read(key, verb)
    ]
    assert ("res_mlp64" in page) == is_read("method.encoder", verb, Method)


def test_experiments_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nexperiment: mine\ntrainer:\n  steps: 77\n")
    config = load_config([f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine"], "train")
    assert (config.experiment, config.trainer.steps) == ("mine", 77)


def test_overrides_are_read_once() -> None:
    assert [str(one) for one in read_overrides(["seed=1", "+seed=1", "++trainer.steps=5"], [SCHEMA])] == [
        "seed=1",
        "trainer.steps=5",
    ]
