"""The page: whole, in need of nothing else, and with all that the tables have."""

import collections
import re
import xml.etree.ElementTree

import pytest
from helpers.made_up_runs import PEERS, SECONDS, failed, make_row, make_run, make_step

from numfuse.bench import page, report

RUN = make_run(*(make_row(shape=[size], seconds=PEERS) for size in (2**10, 2**14, 2**18)),
               make_row("batch_norm_forward", [64, 64]), make_step(), make_row(shape=[2**18], busy=1),
               failed(make_row("a <b> & \"c\" $d")), command="numfuse bench --json 'a<b>.json'",
               left_out={"torch": "not <installed>"})


@pytest.fixture(scope="module")
def root():
    """The page as a tree of elements, which an XML parser makes of well-formed text alone."""
    return xml.etree.ElementTree.fromstring(page.page(RUN))


def texts(element, path):
    return [" ".join("".join(found.itertext()).split()) for found in element.iterfind(path)]


def test_every_table_is_there_with_every_cell(root):
    sections = [section for section in root.iter("section") if section.find(".//table")]
    tables = report.tables(RUN)
    assert [texts(section, "h2") for section in sections] == [[title] for title, _ in tables]
    for section, (_, columns) in zip(sections, tables):
        assert texts(section, ".//thead//th") == [*columns]
        assert [texts(row, "*") for row in section.iterfind(".//tbody/tr")] == [[*row] for row in zip(*columns.values())]


def test_machine_method_command_and_legend_are_there(root):
    everything = " ".join("".join(root.itertext()).split())
    for line in report.describe(RUN) + report.notes(RUN):
        assert " ".join(line.split()) in everything


def test_rows_of_who_is_faster_are_marked_by_more_than_colour(root):
    rows = [row for row in root.iter("tr") if row.get("class") == "ahead"]
    assert [texts(row, ".//mark") for row in rows] == [["0.500x"]] * 3
    assert "Underlined" in texts(root, ".//li")[0]
    calm = page.page(make_run(make_row(seconds=SECONDS)))
    assert "<mark>" not in calm and "Underlined" not in calm


def test_nothing_is_fetched():
    text = page.page(RUN)
    assert not re.search(r'(src|href)="(?!#)|@import|url\((?!#)|<script|<link', text)
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r'https?://[^"\s<>]+', text)) <= namespaces


def test_pictures_share_no_ids_and_find_their_own(root):
    figures = root.findall(".//figure")
    assert len(figures) == 4
    for figure in figures:
        text = xml.etree.ElementTree.tostring(figure, encoding="unicode")
        ids = set(re.findall(r'\bid="([^"]+)"', text))
        used = {name for names in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text) for name in names if name}
        assert used and used <= ids
    counts = collections.Counter(element.get("id") for element in root.iter() if element.get("id"))
    assert max(counts.values()) == 1


def test_a_run_gives_the_same_page_each_time():
    assert page.page(RUN) == page.page(RUN)


@pytest.mark.parametrize("run", [make_run(), make_run(failed(make_row()))], ids=["no rows", "failed"])
def test_a_run_without_pictures_is_a_page(tmp_path, run):
    page.write(tmp_path / "run.html", run)
    root = xml.etree.ElementTree.parse(tmp_path / "run.html").getroot()
    assert "Pictures" not in texts(root, ".//h2") and not root.findall(".//figure")
