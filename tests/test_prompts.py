"Prompts from the package and from a file, and what is said when one is wrong."
import subprocess
import sys
from pathlib import Path

import pytest

from javis.basics import ConfigError, JavisError, sha256
from javis.prompts import PromptError, Prompts

REPOSITORY = Path(__file__).resolve().parent.parent


def load(folder: Path, text: str) -> Prompts:
    file = folder / "prompts.yaml"
    file.write_text(text, encoding="utf-8")
    return Prompts.load(file)


def test_the_file_in_the_repository_is_what_the_package_has():
    prompts = Prompts.load(REPOSITORY / "configs/prompts.yaml")
    assert prompts.texts == Prompts().texts
    assert list(prompts.texts) == ["assistant", "assistant_native", "chat"]


def test_the_small_model_is_told_exactly_this():
    assert Prompts().render("assistant", tools="a(b)\nc(d?)") == (
        "You are JAVIS, a developer's assistant. If one of these tools does what is asked, reply "
        "only with the call; else answer in one or two sentences.\na(b)\nc(d?)\n"
        'Call: <tool_call>{"name": "...", "arguments": {...}}</tool_call>')


def test_without_a_file_there_are_those_of_the_package(tmp_path):
    assert Prompts.load(None).texts == Prompts.load(tmp_path / "none.yaml").texts == Prompts().texts


def test_a_file_changes_adds_and_keeps(tmp_path):
    text = "chat: {text: Speak.}\nterse:\n  text: |\n\n    $a ${b}c {x} $$5 %s\n\n"
    prompts = load(tmp_path, text)
    assert prompts.render("chat") == "Speak."
    assert prompts.fields("terse") == ["a", "b"]
    assert prompts.render("terse", a="$b", b=2) == "$b 2c {x} $5 %s"  # filled in once
    assert prompts.text("assistant") == Prompts().text("assistant")
    assert load(tmp_path, "# nothing yet\n").texts == Prompts().texts
    assert Prompts().render("chat") != "Speak."  # the package's own are not touched


def test_a_field_may_have_any_name_and_more_values_than_needed_are_fine(tmp_path):
    prompts = load(tmp_path, "odd: {text: '$name by $self'}")
    assert prompts.fields("odd") == ["name", "self"]
    assert prompts.render("odd", name="n", self="s", unused=1) == "n by s"
    assert prompts.render("chat", tools="read_file(path)") == prompts.text("chat")


def test_a_hash_is_of_the_wording_alone(tmp_path):
    prompts = load(tmp_path, "a: {text: 'Hi $x'}\nb:\n  text: |\n    Hi $x\n")
    assert prompts.hash("a") == prompts.hash("b") == sha256("Hi $x")
    assert prompts.hash("a") != prompts.hash("chat")


def test_korean(tmp_path):
    assert load(tmp_path, "ko: {text: '${tools}로 답하세요'}").render("ko", tools="도구") == "도구로 답하세요"


def test_an_unknown_prompt_is_named_with_a_guess():
    with pytest.raises(PromptError, match="'asistant'. Did you mean 'assistant'.*, chat") as caught:
        Prompts().hash("asistant")
    assert isinstance(caught.value, JavisError) and caught.value.exit_code == 1


def test_missing_values_are_named_together_with_the_prompt(tmp_path):
    prompts = load(tmp_path, "p: {text: '$a $b $c'}")
    with pytest.raises(PromptError, match=r"'p' needs a value for \$a, \$c; it was given b, d"):
        prompts.render("p", b=1, d=2)
    with pytest.raises(PromptError, match="was given none"):
        prompts.render("p")


@pytest.mark.parametrize("text", ["p: just text", "p:", "p: [a]", "p: {txt: a}", "p: {text: 5}",
                                  "p: {text: ' '}", "p: {text: a, more: b}"])
def test_a_prompt_of_another_shape_is_named_with_its_line(tmp_path, text):
    with pytest.raises(PromptError, match=r"'p' \(prompts.yaml, line 2\) should be a section"):
        load(tmp_path, "chat: {text: a}\n" + text)


@pytest.mark.parametrize("text", ["costs $5", "ends with $", "${a", "${}", "$한글"])
def test_a_stray_dollar_is_found_when_the_file_is_read(tmp_path, text):
    with pytest.raises(PromptError, match=r"'p' \(prompts.yaml, line 1\).*Write \$\$"):
        load(tmp_path, f"p: {{text: '{text}'}}")


def test_broken_yaml_says_where(tmp_path):
    with pytest.raises(ConfigError, match="prompts.yaml, line 2, column 1"):
        load(tmp_path, "p: {text: 'a'\n")


def test_importing_prompts_loads_no_pydantic():
    code = "import sys, javis.prompts; print({'pydantic', 'yaml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n"
