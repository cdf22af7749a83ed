"""The graph of rules as a drawing."""

from __future__ import annotations

import re

import pytest
from made_up_page import DOT, Balance

from midas.analysis.report import rulegraph


def test_the_rules_of_tables_and_of_figures_are_one_node_each():
    graph = rulegraph.grouped(rulegraph.read(DOT))
    assert graph == {
        "tables": {"search", "data"},
        "figures": {"data"},
        "search": {"data"},
        "data": set(),
        "report": {"tables", "figures", "search"},
    }


def test_edges_that_follow_from_others_are_left_out():
    graph = rulegraph.reduced(rulegraph.grouped(rulegraph.read(DOT)))
    assert graph["tables"] == {"search"}
    assert graph["report"] == {"tables", "figures"}


def test_nodes_of_the_drawing_do_not_overlap_and_edges_lead_right():
    layout = rulegraph.arrange(rulegraph.reduced(rulegraph.grouped(rulegraph.read(DOT))))
    boxes = [(x, y - rulegraph.HEIGHT / 2, x + w, y + rulegraph.HEIGHT / 2) for x, y, w in layout.places.values() if w]
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert min(left, top) >= 0
        assert right <= layout.width
        assert bottom <= layout.height
        for other in boxes[:i]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
    for path in layout.paths:
        lefts = [layout.places[name][0] for name in path]
        assert lefts == sorted(set(lefts))


def test_the_drawing_is_svg_with_every_rule():
    drawing = rulegraph.to_svg(DOT, {"tables": "tables 1-2"})
    page = Balance(drawing)
    assert re.findall(r"<text[^>]*>([^<]+)", drawing)
    assert {"data", "search", "tables 1-2", "figures", "report"} <= set(re.findall(r">([^<>]+)</text>", drawing))
    assert page.open == []


@pytest.mark.parametrize(
    ("dot", "words"), [("digraph {}", "no rules"), ('0[label = "a"] 1[label = "b"] 0 -> 1 1 -> 0', "need each other")]
)
def test_what_is_no_graph_of_rules_is_refused(dot, words):
    with pytest.raises(ValueError, match=words):
        rulegraph.to_svg(dot)
