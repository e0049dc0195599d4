import re
from pathlib import Path

import pytest

from pyworkflow.check import RULES, check

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (PW\d+ \S+)$(.*?)(?=^###? |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def examples(text):
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def rules_in(source, tmp_path):
    path = tmp_path / "example.py"
    path.write_text(source, encoding="utf-8")
    return [finding.rule for finding in check([str(path)]).findings]


def test_the_page_has_every_rule_in_order():
    assert list(SECTIONS) == [f"{rule.id} {rule.name}" for rule in RULES.values()]


@pytest.mark.parametrize("title", SECTIONS)
def test_a_rule_has_an_example_that_breaks_it_and_one_that_breaks_none(title, tmp_path):
    wrong, right = examples(SECTIONS[title])
    assert set(rules_in(wrong, tmp_path)) == {title.split()[0]}
    assert rules_in(right, tmp_path) == []


def test_the_example_of_an_exception_is_clean_and_would_not_be_without_its_comment(tmp_path):
    (example,) = examples(PAGE.partition("## Exceptions")[2].partition("## The rules")[0])
    assert rules_in(example, tmp_path) == []
    assert rules_in(example.partition("  #")[0], tmp_path) == ["PW105"]


@pytest.mark.parametrize("folder", ["examples", "packages/pyworkflow-core/src", "packages/pyworkflow-core/tests"])
def test_our_own_workflows_break_no_rule(folder):
    result = check([str(ROOT / folder)])
    assert result.findings == ()
    assert result.workflows > 0
