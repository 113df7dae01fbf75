"""The run's log, its resume, the picture, the stopwatch and the table."""

import errno
import json
import math
import os
import struct

import jax
import numpy as np
import pytest
from matplotlib.image import imread

from pmc_jax.artifacts.log import LOSS_PANELS, RunLog, plot_loss, progress, read_log, table
from pmc_jax.artifacts.tensorboard import ScalarEvents
from pmc_jax.artifacts.timer import STAGES, Stopwatch


def tensorboard_scalars(folder, name="tensorboard"):
    """(step, tag, value) of every scalar, and the steps at which a restart purges, in order."""
    from tensorboardX.proto.event_pb2 import Event

    scalars, purges = [], []
    for file in sorted((folder / name).glob("events*")):
        data, offset = file.read_bytes(), 0
        while offset < len(data):
            (length,) = struct.unpack_from("<Q", data, offset)
            event = Event.FromString(data[offset + 12 : offset + 12 + length])
            offset += 16 + length  # length and its CRC before, CRC of the record after
            scalars += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
            if event.HasField("session_log"):
                purges.append(event.step)
    return scalars, purges


def test_log_and_tensorboard_hold_the_scalars(tmp_path):
    with RunLog(tmp_path / "run") as log:
        log.scalars(1, collapse_loss=np.float32(0.5), retain_loss=2)
        log.scalars(2, collapse_loss=math.nan, retain_loss=1.5, selected_score=None)
        # Flushed: readable while the run goes on.
        assert len(read_log(tmp_path / "run" / "log.jsonl")) == 2
        log.event("evaluation", step=2, utility=np.float64(70.25), splits={"retain": np.arange(2)})
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"kind": "scalars", "step": 1, "collapse_loss": 0.5, "retain_loss": 2.0},
        {"kind": "scalars", "step": 2, "collapse_loss": None, "retain_loss": 1.5},
        {"kind": "evaluation", "step": 2, "utility": 70.25, "splits": {"retain": [0, 1]}},
    ]
    scalars, purges = tensorboard_scalars(tmp_path / "run")
    assert scalars == [(1, "collapse_loss", 0.5), (1, "retain_loss", 2), (2, "retain_loss", 1.5)]
    assert purges == []


def test_text_is_written_only_on_request(tmp_path):
    for text in (False, True):
        with RunLog(tmp_path / str(text), text) as log:
            log.event("samples", step=0, count=1, texts={"answers": ["the sécret"]})
        (row,) = read_log(tmp_path / str(text) / "log.jsonl")
        answers = {"answers": ["the sécret"]} if text else {}
        assert row == {"kind": "samples", "step": 0, "count": 1, **answers}


def test_a_log_without_a_folder_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with RunLog(None) as log:
        log.resume(3)
        log.scalars(1, x=1.0)
        log.event("note")
    assert list(tmp_path.iterdir()) == []


def test_resume_takes_back_later_lines_and_a_half_written_one(tmp_path):
    with RunLog(tmp_path) as log:
        log.event("config", name="x")
        for step in range(1, 6):
            log.scalars(step, utility=step)
    path = tmp_path / "log.jsonl"
    with path.open("ab") as file:
        file.write('{"kind": "scalars", "step": 3, "x": "é'.encode()[:-1])
    with RunLog(tmp_path) as log:
        log.resume(3)
        log.scalars(4, utility=40)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row.get("step") for row in rows] == [None, 1, 2, 3, 4]
    assert rows[-1]["utility"] == 40
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log.jsonl", "tensorboard"]
    scalars, purges = tensorboard_scalars(tmp_path)
    assert scalars[-1] == (4, "utility", 40)
    assert purges == [4]


def test_a_file_after_a_failed_write_hides_nothing(tmp_path):
    events = ScalarEvents(tmp_path / "tensorboard")
    events.purge(4)
    events.add(4, {"x": 4.0})
    events.close()  # as after a failed write
    events.add(5, {"x": 5.0})
    events.close()
    assert tensorboard_scalars(tmp_path) == ([(4, "x", 4), (5, "x", 5)], [4])


def test_resume_of_a_log_in_use(tmp_path):
    with RunLog(tmp_path) as log:
        for step in (1, 2, 3):
            log.scalars(step, utility=step)
        log.resume(1)
        log.scalars(2, utility=20)
    rows = read_log(tmp_path / "log.jsonl")
    assert [(row["step"], row["utility"]) for row in rows] == [(1, 1), (2, 20)]


def test_a_log_that_is_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "log.jsonl")
    with pytest.raises(OSError, match="not a regular file"):
        RunLog(tmp_path)


def test_reopening_does_not_glue_lines_together(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"kind": "a", "step": 9}\n{"kind": "b", "st')
    with RunLog(tmp_path) as log:
        log.event("c")
    assert [row["kind"] for row in read_log(path)] == ["a", "c"]
    assert path.read_text().count("\n") == 2


def test_read_log_warns_of_what_it_leaves_out(tmp_path, caplog):
    path = tmp_path / "log.jsonl"
    damaged = (
        "[1]",
        "{}",
        '{"kind": 3}',
        '{"kind": "a", "step": "x"}',
        '{"kind": "a", "step": []}',
    )
    damaged += ('{"kind": "scalars", "step": 1, "loss": "x"}', '{"a": ' * 9000, "\xff", "\0")
    lines = ['{"kind": "a"}', "", *damaged, '{"kind": "b", "step": null, "text": "x"}']
    path.write_text("\n".join(lines))
    assert read_log(path) == [{"kind": "a"}, {"kind": "b", "step": None, "text": "x"}]
    assert caplog.text.count("is damaged, so it is skipped") == len(damaged)
    assert "line 3 is damaged" in caplog.text


@pytest.mark.parametrize("num", [0, 1, 2, 3, 30, 300])
def test_plot_loss(tmp_path, num):
    rows = [{"kind": "config"}, {"step": 0, "unrelated": 1.0}]
    rows += [{"step": n, **{key: 1 / (1 + n) for key, _, _ in LOSS_PANELS}} for n in range(num)]
    plot_loss(rows, tmp_path / "loss.png")
    if num < 3:
        assert not (tmp_path / "loss.png").exists()
        return
    image = imread(tmp_path / "loss.png")
    assert image.shape[:2] == (1000, 1200)
    # Each third of the page has ink in its panel's colour.
    for third, main in zip(np.array_split(image[..., :3], 3), (2, 0, 1), strict=True):
        assert _is_inked(third, main)


def _is_inked(pixels, main: int) -> bool:
    return bool(((pixels.argmax(-1) == main) & (np.ptp(pixels, axis=-1) > 0.3)).any())


def test_plot_loss_omits_a_panel_of_two_values(tmp_path):
    rows = [{"step": n, "retain_loss": 1.0} for n in range(10)]
    rows += [{"step": n, "collapse_loss": 1.0} for n in range(2)]
    plot_loss(rows, tmp_path / "loss.png")
    image = imread(tmp_path / "loss.png")
    assert len(image) < 500
    assert _is_inked(image[..., :3], 1) and not _is_inked(image[..., :3], 0)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_stopwatch_is_exclusive_and_adds_up():
    clock = Clock()
    watch = Stopwatch(clock)
    clock.now += 1  # other
    with watch.stage("sample"):
        clock.now += 2
        with watch.stage("compile"):
            clock.now += 4
        clock.now += 8
        with pytest.raises(RuntimeError), watch.stage("score"):
            clock.now += 16
            raise RuntimeError
        assert watch.seconds()["sample"] == 10
    clock.now += 32  # other
    seconds = watch.seconds()
    assert list(seconds) == [*STAGES, "total"]
    expected = {"sample": 10, "compile": 4, "score": 16, "other": 33, "train": 0}
    expected |= {"evaluate": 0, "finetune": 0}
    assert seconds == {**expected, "total": 63}


def test_stopwatch_continues_after_a_resume():
    clock = Clock()
    watch = Stopwatch(clock)
    with watch.stage("train"):
        clock.now += 5
    seconds = json.loads(json.dumps(watch.seconds()))
    clock.now += 1000  # the run was down
    watch = Stopwatch(clock)
    watch.add(seconds)
    with watch.stage("train"):
        clock.now += 2
    assert watch.seconds()["train"] == 7
    assert watch.seconds()["total"] == 7


def test_stopwatch_keeps_compiling_apart():
    watch = Stopwatch()
    with watch.compiling_apart(), watch.stage("train"):
        jax.jit(lambda x: jax.numpy.sin(x) @ x + 7)(jax.numpy.ones((3, 3)))
    compiling = watch.seconds()["compile"]
    assert 0 < compiling <= watch.seconds()["total"]
    jax.jit(lambda x: x - 8)(jax.numpy.ones(3))  # outside: not counted
    assert watch.seconds()["compile"] == compiling
    assert watch.seconds()["train"] >= 0


def test_stopwatch_rejects_unknown_stages():
    with (
        pytest.raises(ValueError, match="the stage 'trian' is unknown"),
        Stopwatch().stage("trian"),
    ):
        pass


def test_progress(capsys):
    assert list(progress(range(3), "rows", "row")) == [0, 1, 2]
    with progress(2, "steps", "step") as bar:
        bar.update(2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert (
        "rows: 100%" in captured.err and "steps: 100%" in captured.err and " step/s" in captured.err
    )
    assert list(progress([7], "rows", "row", enabled=False)) == [7]
    assert capsys.readouterr().err == ""


def test_table():
    rows = [["retain", 0.92420423, 300], ["world_facts", None, 7]]
    assert table(rows, ["split", "rougeL", "rows"]) == (
        "split        rougeL  rows\n"
        "-----------  ------  ----\n"
        "retain       0.9242   300\n"
        "world_facts       -     7"
    )
    assert table([], ["a", "bc"]) == "a  bc\n-  --"
    with pytest.raises(
        ValueError, match=r"row 1 has the wrong number of cells \(1 for 2 headers\)"
    ):
        table([[1, 2], [3]], ["a", "b"])


def test_lines_that_find_no_room_are_lost_alone(tmp_path, caplog):
    class Full:
        """Takes half a line, then nothing, then all."""

        def __init__(self, file):
            self.file, self.calls = file, 0

        def write(self, line: bytes) -> int:
            self.calls += 1
            if self.calls == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(line[: len(line) // 2] if self.calls == 1 else line)

        def close(self):
            self.file.close()

    with RunLog(tmp_path) as log:
        log.event("a", number=1)
        log._file = Full(log._file)
        for number in range(2, 6):
            log.event("a", number=number)
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path}: the log could not be written (the disk is full). The run continues. Check "
        "the disk."
    ]
    assert [row["number"] for row in read_log(tmp_path / "log.jsonl")] == [1, 4, 5]
