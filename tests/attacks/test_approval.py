"""Case 60, approval fatigue: many tiny questions, with a dangerous one among them.

The person here is tired, as people are: each attack says how. Then the guards are taken away one by one, and each
time at least one attack must get through."""
import sys
import tempfile
from pathlib import Path

import pytest

from javis import approving, calling, keys, turn
from javis.config import load_settings
from javis.events import MANY_QUESTIONS, Approval, ApprovalNeeded
from javis.session import ChatSession
from javis.store import Store
from javis.tools.base import Toolbox, render_tool_call, tool
from javis.tools.policy import Policy

sys.path.insert(0, str(Path(__file__).parent.parent))
from attacks.test_terminal import asked  # noqa: E402

DANGER = ("run", {"command": "rm -r ."})


def note(number):
    return "put", {"path": f"note{number}.txt", "text": "fine"}


def turn_of(approve, *rounds):
    "What ran in a turn whose n-th answer asks for these calls, with the questions that were asked."
    with tempfile.TemporaryDirectory() as folder:
        root, ran, questions = Path(folder), [], []

        @tool("write", preview=lambda path, text: f"-{(root / path).read_text() if (root / path).exists() else ''}\n+{text}")
        def put(path: Path, text: str) -> str:
            "Put a text into a file."
            ran.append(("put", str(path), text))
            (root / path).write_text(text)
            return "put"

        @tool("exec")
        def run(command: str) -> str:
            "Run a command."
            ran.append(("run", command))
            return "ran"

        def asks(question):
            questions.append((question, len(ran)))
            return approve(question)
        answers = ["".join(render_tool_call(*call) for call in calls) for calls in rounds]
        settings = load_settings(root=root, env={"JAVIS_TOOLS__MAX_ROUNDS": "40"})
        with Store(settings.paths.db) as store, ChatSession(
                settings, store, Toolbox([put, run]), Policy(root, "edit"), approve=asks,
                client=turn.scripted_client(*answers, "Done.", "Done.")) as session:
            list(session.stream("Go."))
        return ran, questions


def behind_harmless_ones(monkeypatch, capsys):
    "Who reads the first question and waves the rest through."
    first = []

    def approve(question):
        first.append(question)
        return Approval(len(first) > 1 or question.name != "run", question.key)
    ran, _ = turn_of(approve, [*map(note, range(8)), DANGER])
    return ("run", "rm -r .") in ran


def one_after_another(monkeypatch, capsys):
    "Who cannot know that there is more to come: something ran before all was shown."
    _, questions = turn_of(lambda question: Approval(True, question.key), [*map(note, range(4)), DANGER])
    return not questions[0][0].also or any(ran for _, ran in questions)


def yes_to_another_of_them(monkeypatch, capsys):
    "A yes to the harmless call, given back for the dangerous one."
    harmless = []

    def approve(question):
        harmless.extend(one.key for one in question.also if one.name == "put")
        return Approval(True, harmless[0])
    ran, _ = turn_of(approve, [note(1), DANGER])
    return ("run", "rm -r .") in ran


def one_yes_for_two(monkeypatch, capsys):
    "Two calls alike to the letter: the yes to one is not a yes to the other."
    answers = iter([True, False])
    ran, _ = turn_of(lambda question: Approval(next(answers), question.key), [DANGER, DANGER])
    return len(ran) != 1


def another_diff(monkeypatch, capsys):
    "An earlier call puts something else where the change of a later one was shown to go."
    shown = {}

    def approve(question):
        if "changed since you saw it" in question.rule:
            return Approval(False, question.key)
        shown[question.arguments["text"]] = question.preview
        return Approval(True, question.key)
    ran, _ = turn_of(approve, [("put", {"path": "notes.txt", "text": text}) for text in ("one", "two")])
    return ("put", "notes.txt", "two") in ran


def never_counted(monkeypatch, capsys):
    "Question after question, and nothing says how many there were."
    _, questions = turn_of(lambda question: Approval(True, question.key), *[[note(n)] for n in range(MANY_QUESTIONS + 1)])
    last = questions[-1][0]
    _, shown, _ = asked(monkeypatch, capsys, last, (0.6, "n"))
    return f"asked about {MANY_QUESTIONS + 1} calls" not in shown or "q stop this turn" not in shown


def goes_on_after_the_stop(monkeypatch, capsys):
    ran, questions = turn_of(lambda question: Approval(False, question.key, stop=True), [DANGER, note(1)], [note(2)], [DANGER])
    return bool(ran) or len(questions) > 2


def batch(*texts):
    first, *rest = [ApprovalNeeded(f"{n}", "run", {"command": text}, "a rule", "exec", f"k{n}") for n, text in enumerate(texts)]
    return ApprovalNeeded(**{**vars(first), "also": tuple(rest)})


def all_before_it_was_seen(monkeypatch, capsys):
    "A yes to all of them while the last was not on the screen."
    said, _, _ = asked(monkeypatch, capsys, batch("ls\n" * 400, "rm -r ."), (0.6, "a"), (0.6, "y"))
    return said.yes


def all_by_a_paste(monkeypatch, capsys):
    return any(asked(monkeypatch, capsys, batch("ls", "rm -r ."), (0.6, text))[0].yes for text in ("all\n", "1y", "\x1b[200~a\x1b[201~"))


def all_typed_ahead(monkeypatch, capsys):
    return asked(monkeypatch, capsys, batch("ls", "rm -r ."), (-1, "a\na"))[0].yes


ATTACKS = [behind_harmless_ones, one_after_another, yes_to_another_of_them, one_yes_for_two, another_diff, never_counted,
           goes_on_after_the_stop, all_before_it_was_seen, all_by_a_paste, all_typed_ahead]


@pytest.mark.case(60)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: one.__name__)
def test_no_tired_yes_lets_a_call_through(attack, monkeypatch, capsys):
    assert not attack(monkeypatch, capsys)


@pytest.mark.case(60)
def test_a_person_who_has_read_them_can_say_yes(monkeypatch, capsys):
    said, shown, _ = asked(monkeypatch, capsys, batch("ls", "make"), (0.6, "a"))
    assert said == Approval(True, "k0") and shown.index('"ls"') < shown.index('"make"')
    assert asked(monkeypatch, capsys, batch("ls", "make"), (0.6, "1"), (0.2, "y"))[0].yes
    assert not asked(monkeypatch, capsys, batch("ls", "make"), (0.6, "2"), (0.2, "y"))[0].yes
    assert asked(monkeypatch, capsys, batch("ls", "make"), (0.6, "ㅁ"))[0].yes


async def nothing_first(self, turn, ids, wishes):
    return {}


async def any_yes(self, question):
    answer = self._answers[question.id] = turn.asyncio.get_running_loop().create_future()
    self.emit(question)
    said = await self.interruptible(answer)
    if said.stop:
        self.stop()
    return said


async def by_key(self, turn, questions, ask=calling._Questions._ask):
    "One answer for calls that are alike."
    said = dict(zip([one.key for one in reversed(questions)], reversed(await ask(self, turn, questions))))
    return [said[one.key] for one in questions]


async def no_stop(self, question):
    answer = self._answers[question.id] = turn.asyncio.get_running_loop().create_future()
    self.emit(question)
    said = await self.interruptible(answer)
    return said if said.key == question.key else Approval(False)


WEAK = {
    "all at once": [(calling.Calling, "_asked_first", nothing_first)],
    "the most dangerous first": [(calling, "danger_of", lambda tool, arguments, policy: (0, True))],
    "the key of the call": [(turn.Control, "approval", any_yes)],
    "one answer for one call": [(calling._Questions, "_ask", by_key)],
    "the diff as it will be": [(Toolbox, "preview", lambda self, name, arguments: "")],
    "the count": [(approving, "_many", lambda asked: "")],
    "the stop": [(turn.Control, "approval", no_stop)],
    "the last page": [(approving, "pages", lambda lines, columns, height, pages=approving.pages: pages(lines, columns, height)[:1])],
    "silence and one key alone": [(keys, "settle", lambda keys, quiet_s=0: 0), (
        approving, "chosen", lambda keys, among, guard=True: next((
            one for one in iter(lambda: keys(None), "\x04") for one in one.lower() if one in among), "n"))],
}


@pytest.mark.case(60)
@pytest.mark.parametrize("guard", WEAK)
def test_without_a_guard_a_tired_yes_is_enough(guard, monkeypatch, capsys):
    for place, name, weak in WEAK[guard]:
        monkeypatch.setattr(place, name, weak)
    assert any(attack(monkeypatch, capsys) for attack in ATTACKS)
