"""What RESULTS.md and the picture say of rounds."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import picture
import record
import report
from measured import Claim, Measured, Result, Round, Spread
from record import Record

if TYPE_CHECKING:
    from pathlib import Path

OURS = [Round(1.0, 1000, {"scheduler": 0.01, "workers": 0.04}, {"scheduler": 40_000_000}, 90_000_000)] * 3
THEIRS = [Round(seconds, 1000, {"all": 0.2}, {}, 300_000_000) for seconds in (4.0, 3.0, 2.0)]
FAST = [Round(0.5, 1000)] * 3
SHORT = Claim("speed over Fast", Spread(0.5, 0.5, 0.5), 2, against="Fast")
MET = Claim("speed over Slow", Spread(3, 2, 4), 2, against="Slow")


def result(measured: Measured, *claims: Claim, compared: tuple[str, ...] = ("batchmesh",)) -> Result:
    """A workload that gave this."""
    return Result(
        "1,000 things",
        "things",
        measured,
        list(claims),
        compared,
        (),
        Record(1000, "bench.py", "today", "2 cores", {"peer": "1.0"}, measured),
    )


def cells(text: str, name: str) -> list[str]:
    """Of the row of a way, without its name."""
    row = next(line for line in text.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in row.split("|")[2:-1]]


def test_a_row_has_seconds_rate_ratio_cpu_and_memory() -> None:
    text = report.workload(result({"batchmesh": OURS, "Slow": THEIRS}))
    assert cells(text, "batchmesh") == ["1 (1, 1)", "1,000", "", "50 µs", "90 MB"]
    assert cells(text, "Slow") == ["3 (2, 4)", "333", "3 (2, 4)", "200 µs", "300 MB"]


def test_the_parts_of_the_mesh_are_told_apart() -> None:
    text = report.workload(result({"batchmesh": OURS, "Slow": THEIRS}))
    assert text.endswith("of batchmesh: scheduler 10 µs and 40 MB, workers 40 µs and 0 MB.")


def test_a_peer_without_rounds_did_not_finish() -> None:
    assert cells(report.workload(result({"batchmesh": OURS, "Gone": []})), "Gone") == ["did not finish", "", "", "", ""]


def test_a_way_of_ours_is_compared_with_each_other_one_but_not_with_ours() -> None:
    both = result({"batchmesh": OURS, "less": FAST, "Slow": THEIRS}, compared=("batchmesh", "less"))
    text = report.workload(both)
    assert cells(text, "Slow")[2:4] == ["3 (2, 4)", "6 (4, 8)"]
    assert cells(text, "less")[2:4] == ["", ""]


def test_a_target_that_is_not_met_is_shown_as_such() -> None:
    text = report.targets([result({"batchmesh": OURS}, SHORT, MET)])
    assert cells(text, "speed over Fast") == ["0.5 (0.5, 0.5)", "at least 2", "**falls short**"]
    assert cells(text, "speed over Slow") == ["3 (2, 4)", "at least 2", "met"]


def test_each_table_of_the_document_names_its_command_and_a_machine_is_named_once() -> None:
    text = report.document([result({"batchmesh": OURS}), result({"batchmesh": FAST})])
    assert [text.count(each) for each in ("`bench.py`, on today", "On 2 cores.", "Beside it: peer 1.0.")] == [2, 1, 1]


def drawn(*results: Result) -> ET.Element:
    return ET.fromstring(picture.svg(results))


def texts(image: ET.Element) -> list[str]:
    return [each.text or "" for each in image.iter() if each.tag.endswith("text")]


def test_the_picture_has_a_row_for_each_peer_that_finished() -> None:
    told = texts(drawn(result({"batchmesh": OURS, "Slow": THEIRS, "Fast": FAST, "Gone": []}, MET, SHORT)))
    assert {"1,000 things", "Slow", "Fast"} < set(told)
    assert "Gone" not in told


def test_the_picture_says_which_ratio_falls_short() -> None:
    told = texts(drawn(result({"batchmesh": OURS, "Slow": THEIRS, "Fast": FAST}, MET, SHORT)))
    assert {"3, target 2: met", "0.5, target 2: falls short"} < set(told)


def test_a_greater_ratio_stands_further_right_and_a_tenth_as_far_left_as_ten_is_right() -> None:
    tenth, ten = ([Round(seconds, 1000)] for seconds in (0.1, 10.0))
    image = drawn(result({"batchmesh": OURS[:1], "a": tenth, "b": OURS[:1], "c": ten}))
    first, one, last = (float(each.attrib["cx"]) for each in image.iter() if each.tag.endswith("circle"))
    assert first < one < last
    assert abs((one - first) - (last - one)) < 0.2


def test_a_workload_that_compares_nothing_has_no_ratios_and_is_not_in_the_picture() -> None:
    alone = result({"late": OURS, "later": THEIRS}, compared=())
    assert cells(report.workload(alone), "later") == ["3 (2, 4)", "333", "200 µs", "300 MB"]
    assert "1,000 things" not in texts(drawn(alone))


def test_rounds_are_read_as_they_were_kept(tmp_path: Path) -> None:
    kept = {"rows": Record(1000, "bench.py", "today", "2 cores", {"peer": "1.0"}, {"batchmesh": OURS, "Slow": THEIRS})}
    record.save(tmp_path / "results.json", kept)
    assert record.load(tmp_path / "results.json") == kept


def test_nothing_is_known_before_the_first_run(tmp_path: Path) -> None:
    assert record.load(tmp_path / "results.json") == {}
