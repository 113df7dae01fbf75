"""A template that prints today's date prints the date of the first run on every day."""

import datetime
import json
import logging
from pathlib import Path

import pytest
import tiny_runs as tiny

from pmc_jax.commands.pinned_date import pin_date
from pmc_jax.commands.target import made_of
from pmc_jax.config.run import Config, ModelConfig, OutputConfig
from pmc_jax.data import today
from pmc_jax.data.encode import make_encoder
from pmc_jax.models.load import find_tokenizer

DAY, OTHER = "2024-02-09", "2024-02-10"
# The tokens of the tiny model are whole words.
DATED = (
    "{% if strftime_now('%-d') | int % 2 %}Zorbolant {% else %}Quaxolant {% endif %}"
    "{% for m in messages %}{{ m.content }} {% endfor %}"
)


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tiny.write_model(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(DATED)
    return folder


def config_of(model: Path, **fields) -> Config:
    return Config(model=ModelConfig(path=str(model), **fields), output=OutputConfig(dir="out"))


@pytest.mark.parametrize(
    "format",
    ["%d %b %Y", "%A, %-d. %B %y; %j %H:%M 100%%", "%c|%x|%X", "%F %T %D %e %p%n", "%Y-%m-%d", ""],
)
@pytest.mark.parametrize(
    "template",
    ["CALL", "\n  {%- if strftime_now is defined %}\n CALL{% endif %} \n", " \n\nCALL\n"],
)
def test_dates_are_written_as_python_writes_them(template, format, model):
    tokenizer = find_tokenizer(model)
    wanted = datetime.datetime.fromisoformat(DAY).strftime(format)
    messages = [{"role": "user", "content": "a"}]

    def render(text: str) -> str:
        return tokenizer.apply_chat_template(messages, chat_template=text, tokenize=False)

    tokenizer.chat_template = template.replace("CALL", f"{{{{ strftime_now({format!r}) }}}}")
    dated = render(today.dated_template(tokenizer, DAY))
    assert dated == render(template.replace("CALL", f"{{{{ {wanted!r} }}}}"))


def test_prompts_have_the_date_of_the_settings(model, monkeypatch):
    tokenizer = find_tokenizer(model)
    first, second = (
        make_encoder(tokenizer, ModelConfig(date=day)).prompt("Zorbish") for day in (DAY, OTHER)
    )
    assert first[1:] == second[1:] and first != second
    monkeypatch.setattr(today, "today", lambda: DAY)
    assert make_encoder(tokenizer, ModelConfig()).prompt("Zorbish") == first


def test_the_date_is_that_of_the_first_run(model, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("pmc_jax.commands.pinned_date.today", lambda: OTHER)
    config, out = config_of(model), tmp_path / "out"
    with caplog.at_level(logging.WARNING):
        assert pin_date(config, None).model.date == pin_date(config, out).model.date == OTHER
    assert "uses the date 2024-02-10 (today's date) in every prompt. Set" in caplog.messages[1]
    out.mkdir()
    target = out / "target"
    target.mkdir()
    dated = config_of(model, date="2024-03-01")
    (target / "target.json").write_text(json.dumps(made_of(dated, "m", "r")))
    assert pin_date(config, out).model.date == "2024-03-01"
    (out / "run.json").write_text(json.dumps({"settings": {"model": {"date": DAY}}}))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert pin_date(config, out).model.date == DAY
    (line,) = caplog.messages
    assert f"uses the date {DAY} (as recorded in {out / 'run.json'})" in line
    assert pin_date(config, out, overwrite=True).model.date == "2024-03-01"
    run = tmp_path / "compare" / "runs" / "npo"
    run.mkdir(parents=True)
    (run / "run.json").write_text((out / "run.json").read_text())
    assert pin_date(config, tmp_path / "compare").model.date == DAY


def test_other_templates_have_no_date(model, caplog):
    with caplog.at_level(logging.WARNING):
        for fields in ({"format": "tags"}, {"date": DAY}):
            config = config_of(model, **fields)
            assert pin_date(config, None) == config
        for template in (
            "{{ messages[0].content }}",
            "{% set d = strftime_now('%d') %}{{ messages[0].content }}",
        ):
            (model / "chat_template.jinja").write_text(template)
            assert pin_date(config_of(model), None).model.date is None
        (model / "chat_template.jinja").unlink()
        assert pin_date(config_of(model), None).model.date is None
    assert not caplog.messages


def test_a_date_in_some_prompts_is_found(model):
    undated = "{{ messages[0].content }}"
    (model / "chat_template.jinja").write_text(
        f"{{% if messages[0].content|length > 3 %}}{DATED}{{% else %}}{undated}{{% endif %}}"
    )
    assert pin_date(config_of(model), None).model.date is not None


def test_a_date_of_the_settings_is_checked(model):
    for date in ("today", "2024-2-9", "2024-02-30", "09.02.2024"):
        message = tiny.fault(ModelConfig, date=date)
        assert "date: the value must be a date such as '2026-11-30'" in message
