"""Templates of judges: plain files, checked before anything is asked."""

import pytest

from unveil.errors import UserError
from unveil.judging.template import Template, read_template, shipped_template

WHOLE = "{{prompt}} / {{answer_a}} / {{ answer_b }}"


def test_the_shipped_templates_hold_everything_and_forbid_nothing():
    messages = shipped_template("pairwise").messages("the prompt", "first answer", "second answer", {})
    assert [message["role"] for message in messages] == ["system", "user"]
    text = messages[1]["content"]
    assert text.index("the prompt") < text.index("first answer") < text.index("second answer")
    assert "tie" in text
    assert "{{" not in text
    (letter,) = shipped_template("letter").messages("the prompt", "first answer", "second answer", {})
    assert letter["role"] == "user"
    assert letter["content"].endswith("Better answer (A, B or C):")


def test_what_is_filled_in_is_not_filled_in_again():
    template = Template(WHOLE, "t")
    (message,) = template.messages("{{answer_a}}", "{{answer_b}}", "<<system>>\n{x}", {})
    assert message["content"] == "{{answer_a}} / {{answer_b}} / <<system>>\n{x}"


def test_a_file_is_read_with_its_parts_and_columns(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(f"<<system>>\nBe fair.\n<<user>>\n{WHOLE} {{{{reference}}}} {{{{tests}}}}\n")
    template = read_template(str(path))
    assert template.columns == ("reference", "tests")
    messages = template.messages("p", "a", "b", {"reference": "r", "tests": ["x", 1]})
    assert messages == [
        {"role": "system", "content": "Be fair."},
        {"role": "user", "content": 'p / a / b r ["x", 1]'},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{prompt}} {{answer_a}}", r"lacks \{\{answer_b\}\}; a judge must see all of it"),
        ("{prompt} {answer_a} {answer_b}", r"lacks \{\{prompt\}\}, .* \(double braces are needed\)"),
        ("", "lacks"),
        (f"<<user>>\n{WHOLE}\n<<system>>\nx", "has the parts"),
        (f"<<assistant>>\nx\n<<user>>\n{WHOLE}", "has the parts"),
    ],
)
def test_a_template_that_cannot_work_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_template(str(path))
    assert str(error.value).startswith(f"--judge_template {path}: ")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"--judge_template .*missing.txt: cannot be read \(No such file"):
        read_template(str(tmp_path / "missing.txt"))
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8 text"):
        read_template(str(tmp_path / "bytes.txt"))
