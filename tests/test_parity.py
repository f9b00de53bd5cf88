"""What is trained is what is served: tokens, conversations, weights and adapters mean the same on both sides.

Three engines are compared with PEFT. `exact` serves the very weights of the training folder, as float32: there
greedy answers must be the same to the last token. `served` is the quantised file that people use: llama.cpp
also rounds what flows between its layers to 8 bits, so its probabilities are near, and only near. `tiny` models
with random weights cover Qwen2, whose rows are not shuffled, and the strengths that one alpha cannot say.
"""
import json
import logging
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from javis.local import Engine
from javis.models import find_model
from javis.weights import convert_adapter, dequantise

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
gguf = pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

MODEL = "smollm2-135m-instruct"
SYSTEM = "You are JAVIS, a developer's assistant. Answer in one or two sentences."
QUESTIONS = ["What is the capital of France?", "Write a Python function that adds two numbers.",
             "List the files in src.", "Why is the sky blue?", "Search for TODO in main.py",
             "How much disk space is left?", "What does git rebase do?", "Open https://example.com/v1?x=2"]
TOKENS = 20


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    logging.disable(logging.WARNING)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two would wait for each other wherever other tests run at the same time
    yield dequantise(MODEL, tmp_path_factory.mktemp("weights") / MODEL)
    torch.set_num_threads(threads)
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def tokenizer(weights):
    return transformers.AutoTokenizer.from_pretrained(weights)


@pytest.fixture(scope="module")
def served(adapters):
    with Engine(MODEL, adapters=adapters, slots=2) as engine:
        yield engine


def post(engine, path, **body):
    "The reply of an engine to one request."
    reply = httpx.post(engine.url.removesuffix("/v1") + path, json=body, timeout=120,
                       headers={"Authorization": f"Bearer {engine.api_key}"})
    reply.raise_for_status()
    return reply.json()


# Conversations and tokens

CONVERSATIONS = [
    [("user", "hi")],
    [("system", SYSTEM), ("user", "What is a lock file?")],
    [("system", ""), ("user", "hi")],
    [("system", "  spaces  \n\n"), ("user", "\n leading and trailing \n")],
    [("user", "one"), ("assistant", "two"), ("user", "three")],
    [("system", SYSTEM), ("user", "한국어로 답해 줘"), ("assistant", "네."), ("user", "README를 열어 줘")],
    [("system", 'Call: <tool_call>{"name": "...", "arguments": {...}}</tool_call>'), ("user", "x")],
    [("user", "{{ braces }} {% raw %} <|im_end|> \\n 'quotes' \"more\"")],
]


@pytest.mark.parametrize("turns", CONVERSATIONS, ids=range(len(CONVERSATIONS)))
def test_a_conversation_is_worded_the_same(served, tokenizer, turns):
    messages = [dict(role=role, content=content) for role, content in turns]
    here = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert post(served, "/apply-template", messages=messages)["prompt"] == here


def test_without_a_system_message_both_add_the_one_of_the_model(served, tokenizer):
    messages = [dict(role="user", content="hi")]
    there = post(served, "/apply-template", messages=messages)["prompt"]
    assert there.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")


TEXTS = ["hi there", 'read_file(path="src/app.ts", start=10, end=250)', "In 2026: 12345 and 3.14159, 0x1F",
         "한국어 문장입니다. 123개의 파일", "<|im_start|>user\nx<|im_end|>\n", "a  b   c\n\n\n  d\t\te ",
         '<tool_call>{"name": "disk_usage", "arguments": {"path": "/var"}}</tool_call>', "I'll don't we've",
         "émigré naïve ½ ² ٣ ５ Ⅷ ①", "😀👩‍👩‍👧 zero\u200bwidth \u00a0nbsp", "x=1;y=22;z=333\r\n", "  leading",
         "127.0.0.1:8080/v1?x=9", "<|endoftext|>abc<repo_name>", "日本語と中文", "▁ not a space", "snake_case CamelCase"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_cut_the_same(served, tokenizer, text):
    there = post(served, "/tokenize", content=text, add_special=False, parse_special=True)["tokens"]
    assert tokenizer(text, add_special_tokens=False).input_ids == there
    assert tokenizer(text).input_ids == there  # nothing is put in front by either


@pytest.mark.parametrize("text", [t for t in TEXTS if "|>" not in t])
def test_tokens_give_back_the_text(tokenizer, text):
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_the_special_tokens_are_those_of_the_file(tokenizer, weights):
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert (tokenizer.pad_token, tokenizer.unk_token) == ("<|im_end|>", "<|endoftext|>")
    generation = json.loads((weights / "generation_config.json").read_text())
    assert generation["eos_token_id"] == tokenizer.eos_token_id == 2
    assert tokenizer.model_max_length == 8192


def test_the_folder_is_plain_bfloat16(weights):
    config = json.loads((weights / "config.json").read_text())
    assert config["dtype"] == "bfloat16" and "quantization_config" not in config


# Adapters


def random_adapter(model, folder, seed, scale=0.03, **options):
    "Put a LoRA with random A and B on all linear layers of a model, and save it."
    torch.manual_seed(seed)
    config = peft.LoraConfig(**dict(r=8, lora_alpha=16, target_modules="all-linear",
                                    task_type="CAUSAL_LM") | options)
    adapted = peft.get_peft_model(model, config)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=scale)
    adapted.save_pretrained(folder)
    return adapted


@pytest.fixture(scope="module")
def peft_folders(weights, tmp_path_factory):
    "Two adapters as PEFT saves them."
    place = tmp_path_factory.mktemp("peft")
    for seed, name in enumerate(("first", "second")):
        base = transformers.AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)
        random_adapter(base, place / name, seed)
    return {name: place / name for name in ("first", "second")}


@pytest.fixture(scope="module")
def adapters(peft_folders, tmp_path_factory):
    "The same two, converted for the engine."
    place = tmp_path_factory.mktemp("gguf")
    return {name: convert_adapter(folder, MODEL, place / f"{name}.gguf")
            for name, folder in peft_folders.items()}


@pytest.fixture(scope="module")
def prompts(tokenizer):
    messages = [[dict(role="system", content=SYSTEM), dict(role="user", content=question)]
                for question in QUESTIONS]
    return [tokenizer.apply_chat_template(one, tokenize=False, add_generation_prompt=True)
            for one in messages]


def peft_answers(model, tokenizer, prompts):
    "Greedy answer, and log-probabilities of the first token, for each prompt."
    with torch.no_grad():
        firsts = [model(**tokenizer(prompt, add_special_tokens=False, return_tensors="pt"))
                  .logits[0, -1].float().log_softmax(-1).numpy() for prompt in prompts]
    batch = tokenizer(prompts, add_special_tokens=False, return_tensors="pt", padding=True, padding_side="left")
    answers = model.generate(**batch, do_sample=False, max_new_tokens=TOKENS)[:, batch.input_ids.shape[1]:]
    return list(zip(tokenizer.batch_decode(answers, skip_special_tokens=True), firsts, strict=True))


@pytest.fixture(scope="module")
def expected(weights, tokenizer, peft_folders, prompts):
    "What PEFT answers: base, first, second."
    base = transformers.AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)
    answers = {None: peft_answers(base, tokenizer, prompts)}
    model = peft.PeftModel.from_pretrained(base, peft_folders["first"], adapter_name="first")
    model.load_adapter(peft_folders["second"], adapter_name="second")
    for name in ("first", "second"):
        model.set_adapter(name)
        answers[name] = peft_answers(model.eval(), tokenizer, prompts)
    return answers


def write_exact(source, path):
    "A GGUF of the same model whose weights are float32, rounded to bfloat16 as in the training folder."
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name not in ("general.architecture", "general.file_type"):
            writer.add_key_value(field.name, field.contents(), field.types[0], field.types[-1])
    for tensor in reader.tensors:
        numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, torch.tensor(numbers).bfloat16().float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def exact(adapters, tmp_path_factory):
    path = write_exact(find_model(MODEL), tmp_path_factory.mktemp("exact") / "exact.gguf")
    with Engine(path, adapters=adapters, slots=2) as engine:
        yield engine
    path.unlink()  # half a gigabyte


def answer(engine, prompt, lora, tokens=TOKENS):
    "Greedy answer of the engine and the five best first tokens with their log-probabilities."
    reply = post(engine, "/completion", prompt=prompt, n_predict=tokens, temperature=0, n_probs=5,
                 cache_prompt=False, **lora)
    best = reply["completion_probabilities"][0]["top_logprobs"]
    return reply["content"], {one["id"]: one["logprob"] for one in best}


def differences(best, logprobs):
    "How far the engine's log-probabilities are from the reference, in nats."
    return [abs(value - logprobs[token]) for token, value in best.items()]


@pytest.mark.parametrize("name", [None, "first", "second"])
def test_on_the_same_weights_the_engine_answers_as_peft(exact, expected, prompts, name):
    off = []
    for prompt, (text, logprobs) in zip(prompts, expected[name], strict=True):
        said, best = answer(exact, prompt, exact.lora(name))
        assert said == text
        assert next(iter(best)) == logprobs.argmax()
        off += differences(best, logprobs)
    print(f"exact, {name}: mean {np.mean(off):.4f}, most {np.max(off):.4f} nats")
    assert np.max(off) < 0.05


def test_adapters_change_the_answers(expected):
    texts = {name: [text for text, _ in answers] for name, answers in expected.items()}
    for one, other in ((None, "first"), (None, "second"), ("first", "second")):
        assert sum(a != b for a, b in zip(texts[one], texts[other])) >= 6


@pytest.mark.parametrize("name", [None, "first", "second"])
def test_on_quantised_weights_the_engine_is_near_to_peft(served, expected, prompts, name):
    off, same, nearest = [], 0, []
    for i, prompt in enumerate(prompts):
        said, best = answer(served, prompt, served.lora(name))
        off += differences(best, expected[name][i][1])
        same += said == expected[name][i][0]
        distance = {other: np.mean(differences(best, found[i][1])) for other, found in expected.items()}
        nearest.append(min(distance, key=distance.get))
    print(f"served, {name}: mean {np.mean(off):.3f}, most {np.max(off):.3f} nats, {same} of {len(prompts)} "
          f"greedy answers of {TOKENS} tokens the same, nearest {nearest}")
    assert np.mean(off) < 0.35
    assert nearest.count(name) >= 0.75 * len(prompts)


def test_a_request_that_names_no_adapter_gets_the_plain_model(exact, expected, prompts):
    for lora in ({}, {"lora": []}, exact.lora(), exact.lora(None)):
        assert answer(exact, prompts[1], lora)[0] == expected[None][1][0]


def test_requests_with_different_adapters_do_not_mix(exact, expected, prompts):
    "At the same time, over the same slots and the same cached prompts."
    def one(job):
        i, name = job
        reply = post(exact, "/completion", prompt=prompts[i], n_predict=TOKENS, temperature=0, **exact.lora(name))
        return reply["content"] == expected[name][i][0]
    jobs = [(i, name) for i in range(4) for name in (None, "first", "second")]
    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(one, jobs)) >= len(jobs) - 1  # a tie may fall to the other side in a batch


# Kinds of models and strengths that the small model does not have

TINY = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, vocab_size=49152, max_position_embeddings=512, initializer_range=0.25,
            tie_word_embeddings=True)


def write_tiny(model, path, shuffle):
    "A float32 GGUF of a tiny Hugging Face model, with the tokenizer of the small one."
    from javis.weights import _LAYERS, _shuffle
    c, source = model.config, gguf.GGUFReader(find_model(MODEL))
    writer = gguf.GGUFWriter(path, c.model_type)
    for field in source.fields.values():
        if field.name.startswith("tokenizer."):
            writer.add_key_value(field.name, field.contents(), field.types[0], field.types[-1])
    writer.add_block_count(c.num_hidden_layers)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_rope_freq_base(c.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(c.hidden_size // c.num_attention_heads)
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
    for i in range(c.num_hidden_layers):
        names |= {f"model.layers.{i}.{there}": f"blk.{i}.{here}" for there, here in _LAYERS.items()}
        names[f"model.layers.{i}.input_layernorm"] = f"blk.{i}.attn_norm"
        names[f"model.layers.{i}.post_attention_layernorm"] = f"blk.{i}.ffn_norm"
    for key, value in model.state_dict().items():
        module, _, kind = key.rpartition(".")
        if module == "lm_head":
            continue
        value = value.float().numpy()
        heads = {"q_proj": c.num_attention_heads, "k_proj": c.num_key_value_heads}.get(module.split(".")[-1])
        if shuffle and heads:
            value = _shuffle(value.reshape(len(value), -1), heads).reshape(value.shape)
        writer.add_tensor(f"{names[module]}.{kind}", np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind, options", [
    ("llama", {}), ("qwen2", {}), ("llama", dict(use_rslora=True)),
    ("llama", dict(rank_pattern={"q_proj": 2, "layers.1.mlp.up_proj": 5}, alpha_pattern={"v_proj": 3, "k_proj": 40})),
    ("qwen2", dict(target_modules=["q_proj", "down_proj"], layers_to_transform=[1], use_rslora=True, r=3)),
    ("llama", dict(target_modules=r".*\.(0|1)\.self_attn\.(k|o)_proj", alpha_pattern={"o_proj": 7}, use_rslora=True)),
], ids=str)
def test_other_models_and_strengths(tmp_path, kind, options):
    torch.manual_seed(3)
    config = transformers.AutoConfig.for_model(kind, **TINY)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "norm.weight")):  # as if trained
            torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
    path = write_tiny(model, tmp_path / "tiny.gguf", shuffle=kind == "llama")
    ids = torch.arange(5, 25)[None] * 37
    with torch.no_grad():
        base = model(ids).logits[0, -1].log_softmax(-1).numpy()
        adapted = random_adapter(model, tmp_path / "peft", 1, scale=0.3, **options).eval()
        want = adapted(input_ids=ids).logits[0, -1].log_softmax(-1).numpy()
    lora = convert_adapter(tmp_path / "peft", path, tmp_path / "lora.gguf")
    with Engine(path, adapters={"a": lora}, slots=1, context_length=256) as engine:
        for name, logprobs in ((None, base), ("a", want)):
            _, best = answer(engine, ids[0].tolist(), engine.lora(name), tokens=1)
            assert next(iter(best)) == logprobs.argmax()
            assert max(differences(best, logprobs)) < 0.05
    assert np.abs(base - want)[np.argsort(want)[-5:]].max() > 0.3  # the adapter does something
