"Secrets by value: what is masked, what is left alone, streams that agree with whole texts, and how fast."
import base64
import json
import re
import secrets
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from javis.masking import MASK, Masker, forms_of, is_ordinary, is_secret_name, secrets_of

KEY = "q7Rk2Lm9-Xw4Tz8Bv"
TOKENS = [
    "sk-proj-abcDEF123456789012", "sk-ant-api03-abcDEF123456789012", "sk_live_51Habcdefghijklmn", "hf_AbCdEfGhIjKlMnOpQrSt",
    "rpa_ABCDEFGHIJKLMNOPQRSTUVWX123", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "gho_16C7e42F292c6912E7710c83",
    "github_pat_11ABCDEFG0abcdefghij", "glpat-1234567890abcdefghij", "AKIAIOSFODNN7EXAMPLE", "AIza" + "Sy1_-abcde" * 4,
    "xoxb-123456789012-abcdefABCDEF", "npm_abcdefghijKLMNOPQRST0123456789", "pypi-AgEIcHlwaS5vcmcCJDEy", "gsk_abcDEF1234567890abcd",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P", "ya29.a0AfH6SMBx-abcdefgh123",
    "SG.abcdefghijklmnop12.abcdefghijklmnopqrstuvwxyz123456", "dapi0123456789abcdef0123456789abcdef",
    "wandb_v1_0a1b2c3d4e5f6a7b8c9d0e1f2a3b",
]
PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA7b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a\n" * 4 + \
    "Zm9vYmFy\n-----END RSA PRIVATE KEY-----"
CONTEXT = [
    ("Authorization: Bearer eyJhbGciOi.eyJzdWIi-_x", "eyJzdWIi"), ("'authorization': 'bearer abcdef012345'", "abcdef"),
    ("Authorization: Basic YWxpOmJhYmFiYWJh", "YWxpOm"), ("WANDB_API_KEY=" + "0a" * 20, "0a0a"), ('"api_key": "' + "0a1b" * 10 + '"', "0a1b"),
    ("client_secret = 'Zx9Kq2Wm4Vb7Nc1L'", "Zx9Kq"), ("postgresql://javis:tops3cret@db/javis", "tops3cret"), ("redis://:tops3cret@db", "tops3cret"),
    ('password: "hunter-2!"', "hunter"), ("https://hooks.slack.com/services/T00000000/B00000000/abcdefABCDEF0123", "abcdefABC"),
    (PEM, "MIIE"), (PEM.replace("\n", "\\n"), "MIIE"), (PEM.partition("-----END")[0], "MIIE"),
]
ORDINARY = [
    "commit " + "0a" * 20, "task-2024-10-11-12-13-14", "the bearer of bad news", "hf_hub", "http://127.0.0.1:8000/v1?mail=a@b",
    "ask me: what is a risk-management-strategy?", "token = tokenizer.decode(ids)", "password = getpass()", 'password = "password"',
    "cache_key = 'user_profile_2024_v2'", "sha256: " + "9f86d081" * 8, "비밀번호는 무엇인가요? 열쇠=없음", "key: value, token: none", "max_tokens=256",
    "/usr/lib/python3.11/site-packages/numpy/core/__init__.py", "basic authorization is explained below", "import sklearn.linear_model",
    "assistant_conversation_history_length", "https://docs.python.org/3/library/asyncio.html#asyncio.run", "id: 0192f0c1-7d1e-7a44-b7f1-aa55c0ffee00",
]


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("around", ["{}", "use {} now", "열쇠는 {}입니다", '{{"k": "{}"}}', "https://x.test/?a={}&b=1", "line\n{}\n"])
def test_tokens_of_known_shapes(token, around):
    masked = Masker().mask(around.format(token))
    assert MASK in masked and token not in masked and token[-8:] not in masked
    assert masked.startswith(around.partition("{}")[0].replace("{{", "{"))


@pytest.mark.parametrize("text, secret", CONTEXT)
def test_what_is_called_a_secret(text, secret):
    masked = Masker().mask(text)
    assert MASK in masked and secret not in masked


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_left_alone(text):
    assert Masker([KEY, "open sesame"]).mask(text) is text


@pytest.mark.parametrize("value", ["", "short", "none", "NULL", "EMPTY", "dummy", "not-needed", "sk-no-key-required", "postgres", "password",
                                   "Development", "12345678", "xxxxxxxxxxxx", "your-api-key", "${API_KEY}", "<token>", "비밀번호"])
def test_ordinary_values_cannot_be_masked(value):
    masker = Masker()
    assert not masker.add(value) and masker.mask(f"a {value} b") == f"a {value} b"


def test_values_that_only_a_name_calls_secret():
    assert all(map(is_secret_name, ["OPENAI_API_KEY", "HF_TOKEN", "DB_PASSWORD", "MY_SECRET", "GITHUB_PAT", "AWS_SECRET_ACCESS_KEY", "PGPASS"[2:]]))
    assert not any(map(is_secret_name, ["PWD", "OLDPWD", "MONKEY", "TOKENIZER", "KEYBOARD", "PATH", "PASSENGERS"]))
    found = list(secrets_of({"SORT_KEY": "created_at", "SSH_KEY": "/home/ali/.ssh/id_rsa", "A_KEY": KEY, "MODE": KEY + "x",
                             "MY_PASSWORD": "correct horse", "REDIS_URL": "redis://:tops3cret@db/0"}))
    assert found == [KEY, "correct horse", "tops3cret"]
    assert is_ordinary("correct_horse", sure=False) and not is_ordinary("correct_horse")


def test_the_known_forms_of_a_value():
    value = 'p@ss "wörd"/1+2='
    masker = Masker([value])
    data = value.encode()
    for form in (value, quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1],
                 data.hex(), data.hex().upper()):
        assert masker.mask(f"x {form} y") == f"x {MASK} y", form
    for before in range(4):
        text = b"a" * before + data + b" and more"
        for encoded in (base64.b64encode(text), base64.urlsafe_b64encode(text)):
            masked = masker.mask(encoded.decode())
            assert MASK in masked
            assert len(masked) - len(MASK) <= (before + len(b' and more')) * 4 / 3 + 8  # what stands around it


def test_longest_first_and_more_values_later():
    masker = Masker(["hunter2-and-more", "hunter2"])
    assert masker.mask("hunter2-and-more hunter2 axbxc") == "**** **** axbxc"
    assert masker.add("a.b*c(d") and masker.add("a.b*c(d")
    assert masker.mask("a.b*c(d axbxc") == "**** axbxc" and repr(masker) == "Masker(3 secrets)"
    assert "hunter2" not in repr(masker)


def test_values_of_json():
    value = {"config": {"api_key": KEY, "WANDB_API_KEY": "0a1b" * 10, "lr": 0.1, KEY: [KEY, None, True]}, "note": f"with {KEY}."}
    masked = Masker([KEY]).mask_all(value)
    assert masked == {"config": {"api_key": MASK, "WANDB_API_KEY": MASK, "lr": 0.1, MASK: [MASK, None, True]}, "note": f"with {MASK}."}


def test_half_characters_survive():
    assert Masker([KEY]).mask(f"\ud800 {KEY}") == f"\ud800 {MASK}"


# streams

def streamed(masker, pieces):
    stream = masker.stream()
    return "".join([*map(stream.feed, pieces), stream.rest()])


def pieces_of(text, cuts):
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in zip(places, places[1:])]


BEGINNINGS = ["sk-", "pk-", "rk-", "glpat-", "pypi-", "nvapi-", "pplx-", "tvly-", "sk_live_", "sk_test_", "rk_live_", "rk_test_", "hf_", "rpa_", "gsk_", "r8_", "npm_",
              "github_pat_", "dop_v1_", "lin_api_", "whsec_", "shpat_", "AKIA", "ASIA", "AIza", "dapi", "eyJ", "ya29.", "SG.", "-----BEGIN"]
A_BEGINNING = re.compile(rf"(?=({'|'.join(map(re.escape, BEGINNINGS))}|xox[a-z]-|gh[pousr]_|wandb_v\d_))", re.IGNORECASE)


def inside_beginnings(text):
    "The places inside of the words that all tokens of a kind begin with."
    return {place for found in A_BEGINNING.finditer(text) for place in range(found.start() + 1, found.end(1))}


VALUES = [KEY, "open sesame", "열려라 참깨 77"]
MASKER = Masker(VALUES)
FORMS = [form.decode() for value in VALUES for form in forms_of(value)]
WORDS = st.one_of(
    st.sampled_from([KEY, "open sesame", "열려라 참깨 77", quote("open sesame"), base64.b64encode(b"so: open sesame!").decode(), *TOKENS,
                     *(text for text, _ in CONTEXT), *ORDINARY, "open", "열려라", "Bearer", "key", "=", ":", '"', "\n", "  ", "-----BEGIN"]),
    st.text(max_size=12), st.text("ab1 =:\"'\n-_/.", max_size=20))


@settings(max_examples=600, deadline=None)
@given(st.lists(WORDS, max_size=8), st.sampled_from(["", " ", "\n"]), st.lists(st.integers(0, 5000), max_size=30))
def test_a_stream_says_what_the_whole_text_says(words, between, cuts):
    text = between.join(words)
    not_here = inside_beginnings(text)
    pieces = pieces_of(text, [cut for cut in cuts if cut % (len(text) + 1) not in not_here])
    assert streamed(MASKER, pieces) == MASKER.mask(text)


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_values_never_come_out_however_the_text_is_cut(data):
    values = data.draw(st.lists(st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=6, max_size=40), min_size=1, max_size=5))
    masker = Masker(values)
    forms = sorted(form.decode("utf-8", "surrogatepass") for value in values if not is_ordinary(value.strip()) for form in forms_of(value.strip()))
    parts = st.one_of(st.sampled_from(["the ", "열쇠는 ", ", ", "\n", "a", *forms, *(form[:len(form) // 2] for form in forms), *(form[1:] for form in forms)]), st.text(max_size=6))
    text = "".join(data.draw(st.lists(parts, max_size=10)))
    pieces = pieces_of(text, data.draw(st.lists(st.integers(0, 5000), max_size=40)))
    stream, shown = masker.stream(), ""
    for piece in pieces:
        shown += stream.feed(piece)
        assert not any(form in shown for form in forms)
    whole = masker.mask(text)
    if not A_BEGINNING.search(text):
        assert shown + stream.rest() == whole and whole.startswith(shown)


@pytest.mark.parametrize("secret", [KEY, "open sesame", "열려라 참깨 77", *TOKENS, *(text for text, _ in CONTEXT)])
def test_a_secret_that_comes_letter_by_letter(secret):
    text = f"이것은 {secret} 입니다."
    joined, whole = streamed(MASKER, text), MASKER.mask(text)
    assert whole != text and joined.endswith(" 입니다.") and len(joined) <= len(whole) + 11  # letters of sk-, hf_, ...
    if not inside_beginnings(text):
        assert joined == whole
    body = text.partition(whole.partition(MASK)[0])[2].removesuffix(whole.rpartition(MASK)[2])
    found = A_BEGINNING.match(body)
    body = body[len(found[1]):] if found else body
    assert len(body) > 5 and not any(body[place:place + 5] in joined for place in range(len(body) - 4) if "-----" not in body[place:place + 5])


ANNOUNCING = re.compile(r"bearer|basic|key|token|secret|passw|credential|://|services/", re.IGNORECASE)
PROSE = st.one_of(st.sampled_from(" A quick , brown . fox - jumps ( over ) the lazy dog 's risk -man age ment task task-2024 기 다 려 주세요 안녕하 세요 . do github pat https :/ / docs \n\n ** bold ** `x = 1` "
                                  "def f ( self , other = 3 ) : 10 % | a | b | 'quoted' \"so\"".split(" ")).flatmap(lambda word: st.sampled_from([word, " " + word])),
                  st.text("abcdefg .,:\n가나다", min_size=1, max_size=8))


@settings(max_examples=600, deadline=None)
@given(st.lists(PROSE, max_size=30))
def test_prose_comes_out_piece_by_piece(pieces):
    stream, text = MASKER.stream(), ""
    for piece in pieces:
        text += piece
        if ANNOUNCING.search(text) or A_BEGINNING.search(text) or MASKER.mask(text) != text:
            return
        may_begin = max((size for form in FORMS for size in range(1, len(form)) if text.endswith(form[:size])), default=0)
        shown = stream.feed(piece)
        held = len(stream._held.decode()) + len(stream._text[stream._shown:].decode())
        assert held == may_begin  # not a letter more than what one of the values begins with
        assert shown.endswith(piece[:len(piece) - may_begin]) if may_begin < len(piece) else True


def test_words_are_not_held_back():
    stream = Masker([]).stream()
    for piece in (" The", " risk", "-man", "agement", " of", " AI", " in", " github", "_actions", ":", " A", " 안녕", "하세요", "\n\n", "-", " item", " https", "://", "docs", ".test"):
        assert stream.feed(piece) == piece
    assert stream.feed(" key") == " key" and stream.feed(": ") == ": " and stream.feed("patience") == "" and stream.feed(" is") == "patience is"
    assert stream.feed(" Bearer ") == " Bearer " and stream.feed("of") == "" and stream.feed(" news") == "of news"
    assert stream.feed(" sk") == " sk" and stream.feed("-learn") == "" and stream.feed(".") == "-learn."


def test_a_piece_costs_microseconds():
    masker = Masker([secrets.token_urlsafe(30) for _ in range(20)])
    pieces = [" The", " quick", " brown", " fox", " 안녕", "하세요", ",", " and", " so", " on", ".", "\n"] * 500

    def once():
        stream, start = masker.stream(), time.process_time()
        for piece in pieces:
            stream.feed(piece)
        return (time.process_time() - start) / len(pieces)
    assert min(once() for _ in range(5)) < 150e-6  # seconds; about 25 on an idle machine


def test_long_pieces_and_words_are_no_slower():
    masker = Masker([secrets.token_urlsafe(30), "x y" * 1000])
    for text in ("a line of a log\n" * 10_000, "x1" * 100_000, "ab_" * 60_000, "://" * 50_000, "-----BEGIN PRIVATE KEY-----\n" * 3000, "key=" * 30_000, "Bearer " * 20_000):
        for size in (100, 5000):
            stream, start = masker.stream(), time.process_time()
            for place in range(0, len(text), size):
                stream.feed(text[place:place + size])
            assert time.process_time() - start < 10


def test_an_endless_word_is_passed_on_and_its_secrets_are_not():
    stream = MASKER.stream()
    shown = [stream.feed("x" * 5000) for _ in range(20)]
    shown += [stream.feed(f"x/{KEY}/" + "x" * 3000) for _ in range(20)]
    assert sum(map(len, shown)) > 100_000 and len(stream._held) + len(stream._text) < 30_000
    assert KEY not in "".join([*shown, stream.rest()])


# speed

@settings(max_examples=200, deadline=None)
@given(st.text(), st.binary(max_size=60))
def test_any_text_survives(text, data):
    assert Masker().mask(text + data.hex()[:15]) is not None
    plain = "".join(one for one in text if not one.isascii() or one.isspace())
    assert MASKER.mask(plain) == plain or "열려라 참깨 77" in plain


def test_forms_are_not_too_many():
    assert 5 <= len(forms_of(secrets.token_urlsafe(30))) <= 16


def test_it_is_fast():
    masker = Masker([secrets.token_urlsafe(30) for _ in range(20)])
    text = "2026-11-22 INFO javis.session: 요청을 처리했습니다 in 31 ms, wrote data/rows.jsonl\n" * 20_000
    best = min(timed(masker, text) for _ in range(5))
    assert len(text.encode()) / best > 25e6  # bytes a second; above 50 on an idle machine


def timed(masker, text):
    start = time.process_time()
    assert masker.mask(text) is text
    return time.process_time() - start
