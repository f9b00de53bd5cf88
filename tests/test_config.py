"The four layers of the settings, what is said about mistakes, and the folders of a project."
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from pydantic import SecretStr, ValidationError

from javis import config, hosts
from javis.basics import redact
from javis.config import (ConfigError, Endpoint, Paths, Settings, explain_settings, find_root,
                          load_settings, setup_logging)
from javis.hosts import Agreements

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def root(tmp_path):
    (tmp_path / "configs").mkdir()
    return tmp_path


def load(root, text=None, *, env=None, dotenv=None, overrides=None, path=None):
    if text is not None:
        (root / "configs/config.yaml").write_text(text, encoding="utf-8")
    if dotenv is not None:
        (root / ".env").write_text(dotenv, encoding="utf-8")
    return load_settings(path, root=root, env=env or {}, overrides=overrides)


def complaint(root, *args, **kwargs) -> str:
    with pytest.raises(ConfigError) as caught:
        load(root, *args, **kwargs)
    assert caught.value.__cause__ is None and caught.value.exit_code == 2
    return str(caught.value)


# imports

def test_import_loads_no_file_reader_and_no_heavy_library():
    code = ("import sys, javis.config; print(sorted({'yaml', 'dotenv', 'torch', 'duckdb', 'httpx', "
            "'sqlalchemy', 'IPython'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
    code = "import sys, javis; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False"


# the files of the repository

def test_the_file_in_the_repository_states_the_defaults_and_all_of_them():
    settings = load_settings(root=REPOSITORY, env={}, path=REPOSITORY / "configs/config.yaml")
    content, _ = config.read_yaml(REPOSITORY / "configs/config.yaml")
    ours, plain = settings.model_dump(), Settings(root=REPOSITORY).model_dump()
    assert list(settings.endpoints) == ["local", "vllm", "runpod"]
    assert ours["endpoints"].pop("local") == plain["endpoints"].pop("local")
    ours.pop("endpoints"), plain.pop("endpoints")
    assert ours == plain
    for name, value in plain.items():  # each key is there to be seen
        assert name in content and (not isinstance(value, dict) or set(content[name]) == set(value))


def test_the_examples_in_the_file():
    env = {"RUNPOD_API_KEY": "rpa_something_long", "RUNPOD_ENDPOINT_URL": "https://api.runpod.ai/v2/abc/openai/v1"}
    settings = load_settings(root=REPOSITORY, path=REPOSITORY / "configs/config.yaml", env=env)
    vllm, runpod = settings.endpoint("vllm"), settings.endpoint("runpod")
    assert (vllm.model, vllm.url, vllm.native_tools) == (
        "Qwen/Qwen2.5-7B-Instruct", "http://127.0.0.1:8000/v1", True)
    assert vllm.api_key is None and runpod.api_key.get_secret_value() == "rpa_something_long"


def test_the_example_of_env_is_readable_and_says_nothing(root):
    text = (REPOSITORY / ".env.example").read_text(encoding="utf-8")
    assert load(root, dotenv=text) == load(root, dotenv="")
    used = set(re.findall(r"\$\{(\w+):-", (REPOSITORY / "configs/config.yaml").read_text()))
    assert used - {"VAR"} <= set(re.findall(r"(?m)^(\w+)=", text))


# layers

def test_no_file_at_all(tmp_path):
    settings = load(tmp_path)
    assert settings == Settings(root=tmp_path)
    assert settings.endpoint().model == "smollm2-135m-instruct"
    assert settings.tools.enabled == [
        "read_file", "list_dir", "search_text", "write_file", "run_shell", "web_search",
        "fetch_url", "find_process", "disk_usage"]
    assert {origin.source for origin in explain_settings(settings)} == {"default"}


def test_each_layer_wins_over_those_before_it(root):
    text = "generation: {temperature: 0.1, top_p: 0.1, max_tokens: 1, seed: 1}"
    dotenv = "JAVIS_GENERATION__TOP_P=0.2\nJAVIS_GENERATION__MAX_TOKENS=2\nJAVIS_GENERATION__SEED=2"
    env = {"JAVIS_GENERATION__MAX_TOKENS": "3", "JAVIS_GENERATION__SEED": "3"}
    settings = load(root, text, dotenv=dotenv, env=env, overrides={"generation.seed": 4})
    assert settings.generation.model_dump() == {
        "temperature": 0.1, "top_p": 0.2, "max_tokens": 3, "seed": 4}
    sources = {origin.key: origin.source for origin in explain_settings(settings)}
    assert sources["generation.temperature"] == "configs/config.yaml"
    assert sources["generation.top_p"] == ".env JAVIS_GENERATION__TOP_P"
    assert sources["generation.max_tokens"] == "environment JAVIS_GENERATION__MAX_TOKENS"
    assert sources["generation.seed"] == "argument" and sources["app.name"] == "default"


def test_the_real_environment_is_the_default(root, monkeypatch):
    monkeypatch.setenv("JAVIS_APP__NAME", "Friday")
    assert load_settings(root=root).app.name == "Friday"


@pytest.mark.parametrize("variable, text, key, value", [
    ("JAVIS_TOOLS__ENABLED", "[run_shell, x]", ("tools", "enabled"), ["run_shell", "x"]),
    ("JAVIS_GENERATION__SEED", "null", ("generation", "seed"), None),
    ("JAVIS_MEMORY__ENABLED", "true", ("memory", "enabled"), True),
    ("JAVIS_LOGGING__LEVEL", "debug", ("logging", "level"), "DEBUG"),
    ("javis_app__name", " 자비스 ", ("app", "name"), "자비스"),
    ("JAVIS_APP__NAME", "", ("app", "name"), "JAVIS"),
])
def test_variables_become_values(root, variable, text, key, value):
    settings = load(root, "generation: {seed: 3}", env={variable: text})
    assert getattr(getattr(settings, key[0]), key[1]) == value


def test_a_variable_reaches_into_an_endpoint_whatever_its_name(root):
    text = "endpoints: {My-GPU: {kind: vllm, model: m, url: 'http://a/v1'}}\nmodel: My-GPU"
    env = {"JAVIS_ENDPOINTS__MY_GPU__URL": "http://b/v1",
           "JAVIS_ENDPOINTS__LOCAL__CONTEXT_LENGTH": "512",
           "JAVIS_ENDPOINTS__NEW__MODEL": "n", "JAVIS_ENDPOINTS__NEW__KIND": "local"}
    settings = load(root, text, env=env)
    assert settings.endpoint().url == "http://b/v1"
    assert settings.endpoint("local").context_length == 512
    assert settings.endpoint("new").model == "n"


def test_part_of_the_default_endpoint_can_be_changed_and_sections_left_empty(root):
    text = "endpoints:\n  local:\n    context_length: 4096\ngeneration:\ntools:\n  # x\n"
    settings = load(root, text)
    assert settings.endpoint().model == "smollm2-135m-instruct"
    assert settings.endpoint().context_length == 4096 and settings.tools.timeout_s == 30
    assert load(root, "endpoints:\n") == Settings(root=root)


def test_overrides_may_be_nested_and_lists_replace(root):
    settings = load(root, "tools: {enabled: [read_file]}",
                    overrides={"tools": {"mode": "read"}, "model": "local"})
    assert settings.tools.mode == "read" and settings.tools.enabled == ["read_file"]


def test_other_variables_of_javis_are_not_settings(root):
    assert load(root, env={"JAVIS_HOME": "/x", "JAVIS_DEMO": "1", "JAVIS_": "x", "JAVISH__A": "1"})


# ${VAR}

def test_variables_in_values(root):
    text = """
app: {name: "$${x} and ${NAME} $5"}
endpoints:
  gpu: {kind: openai, model: m, url: "http://${HOST}:${PORT:-8000}/v1", api_key: "${KEY:-}",
        context_length: "${LENGTH:-4096}"}
tools: {enabled: ["${TOOL}"]}
"""
    env = {"NAME": "${HOST}", "HOST": "box", "TOOL": "run_shell", "PORT": ""}
    settings = load(root, text, env=env, dotenv="LENGTH=1024\nHOST=other")
    assert settings.app.name == "${x} and ${HOST} $5"  # a value is not expanded again
    endpoint = settings.endpoint("gpu")
    assert endpoint.url == "http://box:8000/v1"
    assert endpoint.api_key is None and endpoint.context_length == 1024
    assert settings.tools.enabled == ["run_shell"]


def test_a_variable_that_is_not_set(root):
    text = "endpoints:\n  gpu:\n    kind: openai\n    model: m\n    api_key: ${GPU_KEY}\n"
    said = complaint(root, text)
    assert said.startswith("endpoints.gpu.api_key (configs/config.yaml, line 5): the variable GPU_")
    assert "add GPU_KEY=... to .env" in said and "${GPU_KEY:-}" in said


@pytest.mark.parametrize("value", ["${", "${}", "${A", "${A:default}", "${a b}"])
def test_a_variable_that_is_badly_written(root, value):
    text = json.dumps({"app": {"name": value}})
    assert "without its name or `}`" in complaint(root, text, env={"A": "1"})


# mistakes

@pytest.mark.parametrize("text, parts", [
    ("generation:\n  temprature: 1\n", [
        "generation.temprature (configs/config.yaml, line 2)", "no such key",
        "Did you mean 'temperature'?", "max_tokens"]),
    ("\ntemperature: 1\n", [
        "temperature (configs/config.yaml, line 2)", "belongs under generation:"]),
    ("genration: {}\n", ["Did you mean 'generation'?", "The keys there are app, endpoints, model"]),
    ("endpoints:\n  x:\n    kind: local\n    modle: a\n    model: b\n", [
        "endpoints.x.modle", "line 4", "Did you mean 'model'?"]),
    ("endpoints:\n  x:\n    kind: local\n", [
        "endpoints.x.model (configs/config.yaml, line 2)", "missing"]),
    ("endpoints:\n  x:\n", [
        "endpoints.x (configs/config.yaml, line 2)", "a section, with the keys kind"]),
    ("endpoints: [a]\n", ["endpoints (configs/config.yaml, line 1)", "['a'] will not do",
                          "a section for each endpoint"]),
    ("generation: 5\n", [
        "generation (configs/config.yaml, line 1)", "a section, with the keys temp"]),
    ("generation: {temperature: warm}\n", ["'warm' will not do", "a number from 0 to 2", "is 0.2"]),
    ("generation: {temperature: 3}\n", ["3 will not do", "a number from 0 to 2"]),
    ("generation: {temperature: .nan}\n", ["nan will not do"]),
    ("generation: {temperature: true}\n", ["True will not do", "a number from 0 to 2"]),
    ("generation: {max_tokens: true}\n", ["True will not do"]),
    ("generation: {max_tokens: 1.5}\n", ["1.5 will not do", "a whole number"]),
    ("generation: {max_tokens: null}\n", ["None will not do"]),
    ("generation: {top_p: 0}\n", ["0 will not do", "above 0, up to 1"]),
    ("tools: {mode: edti}\n", ["'edti' will not do. Did you mean 'edit'?", "chat, read, plan, edit or auto"]),
    ("tools: {mode: off}\n", ["False will not do"]),
    ("tools:\n  enabled:\n    - read_file\n    - 5\n", [
        "tools.enabled.1 (configs/config.yaml, line 2)", "5 will not do", "a list of tool names"]),
    ("tools: {enabled: read_file}\n", ["'read_file' will not do", "a list of tool names"]),
    ("app: {language: kor}\n", ["Did you mean 'ko'?"]),
    ("app: {name: ''}\n", ["'' will not do"]),
    ("app: {name: 5}\n", ["5 will not do"]),
    ("model: vlm\nendpoints: {vllm: {kind: vllm, model: m}}\n", [
        "model (configs/config.yaml, line 1)", "no endpoint 'vlm'", "Did you mean 'vllm'?",
        "local, vllm"]),
    ("endpoints: {a b: {kind: local, model: m}}\n", ["'a b' cannot name an endpoint"]),
    ("endpoints: {x: {kind: vllm, model: m, url: '127.0.0.1:8000'}}\n", [
        "an address such as http"]),
    ("root: /tmp\n", ["root (configs/config.yaml, line 1)", "JAVIS_HOME"]),
    ("a: 1\na: 2\n", ["configs/config.yaml", "a is there twice"]),
    ("app: [\n", ["configs/config.yaml, line 2, column 1"]),
])
def test_a_mistake_names_key_place_finding_and_remedy(root, text, parts):
    said = complaint(root, text)
    for part in parts:
        assert part in said


def test_all_mistakes_are_said_at_once(root):
    said = complaint(root, "generation: {seed: x}\napp: {nam: y}\n",
                     env={"JAVIS_TOOLS__TIMEOUT_S": "soon"}, overrides={"logging.backups": -1})
    assert said.startswith("4 settings are wrong:\n") and len(said.splitlines()) == 5
    assert "tools.timeout_s (environment JAVIS_TOOLS__TIMEOUT_S): 'soon'" in said
    assert "logging.backups (argument): -1" in said


@pytest.mark.parametrize("variable, value, part", [
    ("JAVIS_GENERATION__TEMPRATURE", "1",
     "generation.temprature (environment JAVIS_GENERATION__TEMPRATURE"),
    ("JAVIS_GENERATION_TEMPERATURE", "1", "did you mean JAVIS_GENERATION__TEMPERATURE"),
    ("JAVIS_TOOLS__MAX_OUTPUT_CHARS__X", "1", "tools.max_output_chars"),
    ("JAVIS_GENERATION__", "1", "no such key"),
    ("JAVIS_TOOLS__ENABLED", "[read_file", "this is no valid list"),
    ("JAVIS_TOOLS__ENABLED", "read_file", "a list of tool names"),
    ("JAVIS_TOOLS__ENABLED", "[2024-13-45]", "this is no valid list"),
    ("JAVIS_ENDPOINTS__X", "{1: 2}", "endpoints.x.1 (environment JAVIS_ENDPOINTS__X): there is no"),
    ("JAVIS_ENDPOINTS__X", "gpu", "a section, with the keys kind"),
    ("JAVIS_ENDPOINTS__X__URL", "http://a",
     "endpoints.x.model (environment JAVIS_ENDPOINTS__X__URL)"),
])
def test_a_mistake_in_a_variable_names_the_variable(root, variable, value, part):
    assert part in complaint(root, env={variable: value})


def test_a_mistake_below_is_not_hidden_by_a_layer_above(root):
    said = complaint(root, "generation: 5\n", env={"JAVIS_GENERATION__SEED": "1"})
    assert "generation (configs/config.yaml, line 1)" in said


def test_files_that_are_asked_for_or_cannot_be_read(root):
    assert "No such file" in complaint(root, path=root / "other.yaml")
    (root / "other.yaml").write_text("app: {name: X}")
    assert load(root, path=root / "other.yaml").app.name == "X"
    (root / "configs/config.yaml").mkdir()
    assert "configs/config.yaml could not be read" in complaint(root)


def test_a_path_in_configs_tells_the_root(root):
    (root / "configs/config.yaml").write_text("")
    settings = load_settings(root / "configs/config.yaml", env={})
    assert settings.root == root.resolve()


KEYS = st.sampled_from(["model", "endpoints", "local", "generation", "seed", "tools", "enabled",
                        "app", "name", "api_key", "x", "root", "<<", "1"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12)


@hypothesis_settings(max_examples=200, deadline=None)
@given(content=st.dictionaries(KEYS, VALUES, max_size=4),
       above=st.dictionaries(KEYS, VALUES, max_size=2))
def test_whatever_is_in_the_file_it_loads_or_is_explained(tmp_path_factory, content, above):
    root = tmp_path_factory.getbasetemp() / "fuzz"
    (root / "configs").mkdir(parents=True, exist_ok=True)
    try:
        load(root, json.dumps(content), overrides=above)
    except ConfigError as error:
        assert str(error)


@hypothesis_settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="ab:- \n\t{}[]&*!|>'\"%@#?,$<\x00", max_size=40))
def test_whatever_the_text_it_loads_or_is_explained(tmp_path_factory, text):
    root = tmp_path_factory.getbasetemp() / "fuzz"
    (root / "configs").mkdir(parents=True, exist_ok=True)
    try:
        load(root, text)
    except ConfigError as error:
        assert "config.yaml" in str(error)


# secrets

SECRET = "s3cr3t-of-the-cave"


def test_a_key_is_never_shown(root, capsys):
    text = "endpoints: {gpu: {kind: openai, model: m, url: 'http://u:pw12@h/v1', api_key: '${K}'}}"
    settings = load(root, text, env={"K": f" {SECRET}\n"})
    assert settings.endpoints["gpu"].api_key.get_secret_value() == SECRET  # no blanks around
    origins = explain_settings(settings)
    shown = {origin.key: origin.value for origin in origins}
    assert shown["endpoints.gpu.api_key"] == "****" and shown["endpoints.local.api_key"] is None
    everything = f"{origins} {settings} {settings.endpoints} {settings.model_dump_json()}"
    assert SECRET not in everything and "pw12" not in f"{origins}"
    assert redact(f"x{SECRET}x") == "x****x"


@pytest.mark.parametrize("text", [
    f"endpoints: {{gpu: {{kind: openai, model: m, api_key: [{SECRET}]}}}}",
    f"endpoints: {{gpu: {{kind: openai, model: m, api_kye: {SECRET}}}}}",
    f"endpoints: {{gpu: {{kind: openai, model: m, url: '${{MY_KEY}}'}}}}",
    "endpoints: {gpu: {kind: openai, model: m, api_key: 123456789}}",
])
def test_a_key_is_not_shown_by_a_complaint(root, text):
    said = complaint(root, text, env={"MY_KEY": SECRET})
    assert SECRET not in said and "123456789" not in said and "endpoints.gpu." in said


def test_a_key_in_a_variable_is_not_shown(root):
    settings = load(root, env={"JAVIS_ENDPOINTS__LOCAL__API_KEY": SECRET})
    assert isinstance(settings.endpoint().api_key, SecretStr)
    assert SECRET not in str(explain_settings(settings))


# endpoints in use

def test_an_unfinished_endpoint_is_said_when_it_is_asked_for(root):
    text = """
endpoints:
  a: {kind: openai, model: m}
  b: {kind: runpod, model: m, url: "https://x/v1"}
"""
    settings = load(root, text)
    with pytest.raises(ConfigError, match="endpoints.a.url is empty.*kind openai"):
        settings.endpoint("a")
    with pytest.raises(ConfigError, match="endpoints.b.api_key is empty.*RUNPOD_API_KEY"):
        settings.endpoint("b")
    with pytest.raises(ConfigError, match="no endpoint 'c'.*There are: local, a, b"):
        settings.endpoint("c")


def test_settings_do_not_change(root):
    settings = load(root)
    with pytest.raises(ValidationError):
        settings.generation.temperature = 1.0
    with pytest.raises(ValidationError):
        Settings(root=root, model="nowhere")
    with pytest.raises(ValidationError):
        Endpoint(kind="local", model="m", modle="x")


# where keys go

def sent(root, url="https://gateway.example/v1", key="${OPENAI_API_KEY}", *, more="", **layers) -> str:
    "What is said when an endpoint is to be used that has this address and this key; '' for nothing."
    text = f"model: gpu\nendpoints:\n  gpu:\n    kind: openai\n    model: m\n    url: '{url}'\n    api_key: '{key}'\n{more}"
    settings = load(root, text, **{"env": {"OPENAI_API_KEY": SECRET}, **layers})
    try:
        settings.endpoint()
    except ConfigError as error:
        assert SECRET not in str(error) and error.exit_code == 2
        return str(error)
    return ""


@pytest.fixture
def user(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVIS_USER", str(tmp_path / "user"))
    return tmp_path / "user"


def test_what_is_said_of_a_key_that_is_not_sent(root, user):
    said = sent(root, "http://gateway.example:8000/v1")
    assert said.startswith("OPENAI_API_KEY of your environment was not sent. "
                           "endpoints.gpu.api_key (configs/config.yaml, line 7) wants it at http://gateway.example:8000,")
    assert "plain http" in said and "\n  javis policy trust-host OPENAI_API_KEY http://gateway.example:8000\n" in said
    assert "plain http" not in sent(root)


@pytest.mark.parametrize("url", [
    "http://127.0.0.1:8000/v1", "http://127.8.9.1/v1", "http://localhost:11434/v1", "http://LOCALHOST/v1", "http://[::1]:8000/v1",
    "https://api.openai.com/v1", "https://API.OpenAI.com:443/v1"])
def test_a_key_goes_to_this_machine_and_to_its_vendor(root, user, url):
    assert sent(root, url) == ""


@pytest.mark.parametrize("url", [
    "http://api.openai.com/v1", "https://api.openai.com:8443/v1", "https://api.openai.com.evil.example/v1", "https://xapi.openai.com/v1",
    "https://evil.example/api.openai.com", "https://api.openai.com./v1", "https://api.openai.com@evil.example/v1",
    "https://evil.example\\.api.openai.com/v1", "https://api.openai.com\\@evil.example/v1", "https://api.openai.com?x/v1",
    "https://api.openai.com#@evil.example/v1", "https://\u212aapi.openai.com/v1", "https://api.openai.com%2eevil.example/v1",
    "http://127.0.0.1.evil.example/v1", "http://localhost.evil.example/v1", "http://x.localhost/v1", "http://0.0.0.0:8000/v1",
    "http://2130706433/v1", "http://10.0.0.5:8000/v1", "https://api.groq.com/openai/v1", "http://[::1].evil.example/v1",
    "https://my-pod-8000.proxy.runpod.net/v1"])
def test_what_only_looks_like_it_gets_none(root, user, url):
    assert "was not sent" in sent(root, url)
    assert "was not sent" in sent(root, url, "${RUNPOD_API_KEY:-x}", env={"RUNPOD_API_KEY": SECRET})


def test_only_the_vendor_of_that_very_key(root, user):
    assert sent(root, "https://api.runpod.ai/v2/abc/openai/v1", "${RUNPOD_API_KEY}", env={"RUNPOD_API_KEY": SECRET}) == ""
    assert "was not sent" in sent(root, "https://abc.api.runpod.ai/v1", "${RUNPOD_API_KEY}", env={"RUNPOD_API_KEY": SECRET})
    assert "GITHUB_TOKEN" in sent(root, "https://api.openai.com/v1", "${GITHUB_TOKEN}", env={"GITHUB_TOKEN": SECRET})
    assert "GITHUB_TOKEN" in sent(root, "https://api.openai.com/v1", "${OPENAI_API_KEY}${GITHUB_TOKEN}",
                                  env={"OPENAI_API_KEY": "x", "GITHUB_TOKEN": SECRET})


@pytest.mark.parametrize("url, env", [
    ("http://192.168.1.5:8000/v1", {}), ("http://${HOST}:${PORT}/v1", {"HOST": "box", "PORT": "8000"}), ("${SERVER}/v1", {"SERVER": "http://box:8000"})])
def test_without_a_key_nothing_is_asked(root, user, url, env):
    assert sent(root, url, "${VLLM_API_KEY:-}", env=env) == ""
    assert not user.exists()


def test_a_key_of_the_project_goes_where_the_project_says(root, user):
    assert sent(root, env={}, dotenv=f"OPENAI_API_KEY={SECRET}") == ""
    said = sent(root, "http://box:8000/v1", env={}, dotenv=f"OPENAI_API_KEY={SECRET}")
    assert said.startswith("OPENAI_API_KEY of .env was not sent") and "plain http" in said
    assert "your environment" in sent(root, dotenv="OPENAI_API_KEY=another")  # the environment wins


def test_what_the_user_says_outside_of_the_project_is_agreement(root, user):
    address = {"JAVIS_ENDPOINTS__GPU__URL": "https://mine.example/v1"}
    assert sent(root, env={"OPENAI_API_KEY": SECRET, **address}) == ""
    assert sent(root, overrides={"endpoints.gpu.url": "https://mine.example/v1"}) == ""
    assert sent(root, overrides={"endpoints.gpu.api_key": "typed"}) == ""
    plain = {"JAVIS_ENDPOINTS__GPU__URL": "http://box/v1"}
    assert "plain http" in sent(root, env={"OPENAI_API_KEY": SECRET, **plain})
    assert sent(root, env={"JAVIS_ENDPOINTS__GPU__API_KEY": SECRET, "OPENAI_API_KEY": "x", **plain}) == ""
    assert "JAVIS_ENDPOINTS__GPU__API_KEY" in sent(root, env={"JAVIS_ENDPOINTS__GPU__API_KEY": SECRET, "OPENAI_API_KEY": "x"})
    assert "was not sent" in sent(root, dotenv="JAVIS_ENDPOINTS__GPU__URL=https://mine.example/v1")


def test_the_users_own_configuration_is_trusted(root, monkeypatch):
    monkeypatch.setenv("JAVIS_USER", str(root))
    assert sent(root, "http://box/v1") == ""


def test_an_agreement_is_for_one_project_or_for_all(root, user):
    Agreements().add("OPENAI_API_KEY", "https://gateway.example", root / "other")
    assert "was not sent" in sent(root)
    Agreements().add("OPENAI_API_KEY", "https://gateway.example:443/some/path", root)
    assert sent(root) == "" and "was not sent" in sent(root, "https://gateway.example:8443/v1")
    assert Agreements().remove("OPENAI_API_KEY", "https://gateway.example", root) and "was not sent" in sent(root)
    Agreements().add("OPENAI_API_KEY", "https://gateway.example")
    assert sent(root) == ""
    (user / "hosts.json").write_text('[{"variable": 1}, 2]')
    assert "was not sent" in sent(root)


def test_it_is_asked_at_the_moment_of_use(root, user):
    "Who agrees in another window goes on, also with settings that other parts were changed in."
    settings = load(root, "endpoints: {gpu: {kind: openai, model: m, url: 'https://gateway.example/v1', api_key: '${K}'}}", env={"K": SECRET})
    settings = settings.model_copy(update={"model": "gpu"})
    with pytest.raises(ConfigError, match="K of your environment was not sent"):
        settings.endpoint()
    assert settings.endpoint("local").kind == "local"
    Agreements().add("K", "https://gateway.example")
    assert settings.endpoint().api_key.get_secret_value() == SECRET


@pytest.mark.parametrize("field, url, asked", [
    ("model: '${NAME}'", "https://api.openai.com/v1", False), ("model: '${NAME}'", "https://gateway.example/v1", True),
    ("model: '${MY_TOKEN}'", "https://api.openai.com/v1", True), ("context_length: '${LENGTH}'", "https://gateway.example/v1", False)])
def test_other_variables_of_an_endpoint(root, user, field, url, asked):
    text = f"model: gpu\nendpoints: {{gpu: {{kind: openai, {'' if 'model' in field else 'model: m, '}url: '{url}', {field}}}}}"
    settings = load(root, text, env={"NAME": "gpt", "MY_TOKEN": SECRET, "LENGTH": "4096"})
    if asked:
        with pytest.raises(ConfigError, match="was not sent"):
            settings.endpoint()
    else:
        assert settings.endpoint().url == url


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab.:/@\\#?%[]1 \t\u212a-", max_size=20))
def test_two_readers_of_an_address_see_the_same_host(middle):
    "What has an origin here is read in the same way by the library that sends."
    import httpx
    url = f"https://{middle}.example/v1"
    if origin := hosts.origin_of(url):
        try:
            there = httpx.URL(url.strip())
        except httpx.InvalidURL:
            return
        assert hosts.origin_of(f"{there.scheme}://{there.netloc.decode()}") == origin


# folders

def test_the_root_is_found_upwards(root, monkeypatch):
    (root / "configs/config.yaml").write_text("")
    (root / "nbs/tours").mkdir(parents=True)
    monkeypatch.chdir(root / "nbs/tours")
    monkeypatch.delenv("JAVIS_HOME", raising=False)
    assert find_root() == root.resolve()
    monkeypatch.setenv("JAVIS_HOME", str(root / "elsewhere"))
    assert find_root() == (root / "elsewhere").resolve() == load_settings().root
    assert find_root(env={"JAVIS_HOME": "~/x"}) == (Path.home() / "x").resolve()


def test_without_any_root_it_is_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(config.Path, "home", lambda: tmp_path / "home")
    if not any((parent / "configs/config.yaml").exists() for parent in tmp_path.parents):
        assert find_root(tmp_path, env={}) == tmp_path / "home/.javis"


def test_paths_are_below_the_root(root):
    paths = load(root).paths
    assert paths == Paths.under(root.resolve())
    assert paths.db == root.resolve() / "data/javis.db" and paths.runs.name == "training_runs"
    assert all(path.is_relative_to(root.resolve()) for path in vars(paths).values())
    assert not paths.db.parent.exists()  # nothing is made by asking


# the log

def test_the_log_is_where_the_settings_say(root):
    settings = load(root, overrides={"logging.level": "WARNING"})
    log = setup_logging(settings)
    log.info("quiet")
    log.warning("loud")
    try:
        text = (settings.paths.logs / "javis.log").read_text(encoding="utf-8")
        assert "loud" in text and "quiet" not in text and str(os.getpid()) in text
    finally:
        for handler in [one for one in log.handlers if one.name == "javis"]:
            log.removeHandler(handler)
            handler.close()
