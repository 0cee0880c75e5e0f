"""More models for the oracle, of architectures that remember in ways of their own.

Their dimensions are near those of real models but not looked up: what is held against llama.cpp is how an architecture
is understood, not a model.
"""

from collections.abc import Callable

from tests.support.gguf_models import Model, attention, ends, experts, feed_forward, start, state_space


def _gemma4() -> Model:
    """Windows by a list, keys of two lengths, and layers that use the cache of others."""
    wide = [number % 6 == 5 for number in range(30)]
    model = start(
        *("gemma4", 30, 2560, 8, 0, 131072, 262144),
        attention__head_count_kv=[1 if one else 4 for one in wide],
        feed_forward_length=10240,
        attention__key_length=512,
        attention__value_length=512,
        attention__key_length_swa=256,
        attention__value_length_swa=256,
        attention__sliding_window=512,
        attention__sliding_window_pattern=[not one for one in wide],
        attention__shared_kv_layers=6,
        embedding_length_per_layer_input=0,
        rope__dimension_count=512,
        rope__dimension_count_swa=256,
        rope__freq_base_swa=10000.0,
    )
    ends(model, 2560, 262144, tied=True)
    for number in range(30):
        length, keys = (512, 512) if wide[number] else (256, 1024)
        model.add_norms(number, "attn_norm post_attention_norm ffn_norm post_ffw_norm", 2560)
        model.add_norms(number, "attn_q_norm attn_k_norm", length)
        attention(model, number, 2560, 8 * length, keys)
        feed_forward(model, number, 2560, 10240)
    model.add("rope_freqs.weight", 256, kind="F32")
    return model


def _gemma3n() -> Model:
    """Ten layers without a cache, and an embedding for every layer."""
    model = start(
        *("gemma3n", 30, 2048, 8, 2, 32768, 262400),
        feed_forward_length=8192,
        attention__key_length=256,
        attention__value_length=256,
        attention__sliding_window=512,
        rope__freq_base_swa=10000.0,
    )
    ends(model, 2048, 262400, tied=True)
    model.add("altup_proj.weight", 2048, 2048, 3)
    model.add("altup_unembd_proj.weight", 2048, 2048, 3)
    model.add("per_layer_token_embd.weight", 256 * 30, 262400)
    model.add("per_layer_model_proj.weight", 2048, 256 * 30)
    model.add("per_layer_proj_norm.weight", 256, kind="F32")
    for number in range(30):
        block = f"blk.{number}."
        model.add_norms(
            number,
            "attn_norm post_attention_norm ffn_norm post_ffw_norm post_norm laurel_post_norm altup_router_norm",
            2048,
        )
        model.add_norms(number, "attn_q_norm attn_k_norm", 256)
        model.add_norms(number, "altup_correct_scale", 2048)
        model.add(block + "altup_correct_coef.weight", 4, 4, kind="F32")
        model.add(block + "altup_predict_coef.weight", 4, 16, kind="F32")
        model.add(block + "altup_router.weight", 2048, 4, kind="F32")
        model.add(block + "laurel_l.weight", 2048, 64)
        model.add(block + "laurel_r.weight", 64, 2048)
        model.add(block + "inp_gate.weight", 2048, 256)
        model.add(block + "proj.weight", 256, 2048)
        attention(model, number, 2048, 2048, 512)
        feed_forward(model, number, 2048, 8192)
    return model


def _llama4() -> Model:
    """Attention in chunks."""
    model = start(
        *("llama4", 48, 5120, 40, 8, 1048576, 202048),
        feed_forward_length=8192,
        expert_count=16,
        expert_used_count=1,
        expert_feed_forward_length=8192,
        interleave_moe_layer_step=1,
        rope__dimension_count=128,
    )
    ends(model, 5120, 202048)
    for number in range(48):
        model.add_norms(number, "attn_norm ffn_norm", 5120)
        attention(model, number, 5120, 5120, 1024)
        experts(model, number, 5120, 8192, 16)
        feed_forward(model, number, 5120, 8192, end="_shexp")
    return model


def _lfm2() -> Model:
    """Short convolutions, whose state is a few tokens."""
    attentive = {2, 5, 8, 10, 12, 14}
    model = start(
        *("lfm2", 16, 2048, 32, 0, 128000, 65536),
        attention__head_count_kv=[8 if number in attentive else 0 for number in range(16)],
        feed_forward_length=8192,
        shortconv__l_cache=3,
    )
    model.add("token_embd.weight", 2048, 65536, kind="Q6_K")
    model.add("token_embd_norm.weight", 2048, kind="F32")
    for number in range(16):
        model.add_norms(number, "attn_norm ffn_norm", 2048)
        if number in attentive:
            model.add_norms(number, "attn_q_norm attn_k_norm", 64)
            attention(model, number, 2048, 2048, 512)
        else:
            model.add(f"blk.{number}.shortconv.conv.weight", 3, 2048, kind="F32")
            model.add(f"blk.{number}.shortconv.in_proj.weight", 2048, 3 * 2048)
            model.add(f"blk.{number}.shortconv.out_proj.weight", 2048, 2048)
        feed_forward(model, number, 2048, 8192)
    return model


def _mamba2() -> Model:
    """States only."""
    model = start(
        *("mamba2", 64, 4096, 0, 0, 262144, 32768),
        feed_forward_length=0,
        ssm__conv_kernel=4,
        ssm__inner_size=8192,
        ssm__state_size=128,
        ssm__group_count=8,
        ssm__time_step_rank=128,
    )
    ends(model, 4096, 32768)
    for number in range(64):
        model.add_norms(number, "attn_norm", 4096)
        state_space(model, number, 4096, 8192, 128, 8, 128)
    return model


def _nemotron_h() -> Model:
    """Each layer is a state, a feed-forward network or, seldom, attention."""
    attentive, feeding = {14, 21, 30, 39}, {number for number in range(56) if number % 2}
    feeding -= attentive
    model = start(
        *("nemotron_h", 56, 4480, 40, 0, 131072, 131072),
        attention__head_count_kv=[8 if number in attentive else 0 for number in range(56)],
        attention__key_length=128,
        attention__value_length=128,
        feed_forward_length=[15680 if number in feeding else 0 for number in range(56)],
        ssm__conv_kernel=4,
        ssm__inner_size=10240,
        ssm__state_size=128,
        ssm__group_count=8,
        ssm__time_step_rank=128,
    )
    ends(model, 4480, 131072)
    for number in range(56):
        model.add_norms(number, "attn_norm", 4480)
        if number in attentive:
            attention(model, number, 4480, 5120, 1024)
        elif number in feeding:
            feed_forward(model, number, 4480, 15680, "up down")
        else:
            state_space(model, number, 4480, 10240, 128, 8, 128)
    return model


def _glm4moe() -> Model:
    """A last layer that only drafts: neither loaded nor given a cache."""
    model = start(
        *("glm4moe", 47, 4096, 96, 8, 131072, 151552),
        feed_forward_length=10944,
        attention__key_length=128,
        attention__value_length=128,
        expert_count=128,
        expert_used_count=8,
        expert_shared_count=1,
        expert_feed_forward_length=1408,
        leading_dense_block_count=1,
        nextn_predict_layers=1,
        rope__dimension_count=64,
    )
    ends(model, 4096, 151552)
    for number in range(47):
        block = f"blk.{number}."
        model.add_norms(number, "attn_norm post_attention_norm", 4096)
        attention(model, number, 4096, 96 * 128, 1024, bias="q k v")
        if number:
            experts(model, number, 4096, 1408, 128)
            model.add(block + "exp_probs_b.bias", 128, kind="F32")
            feed_forward(model, number, 4096, 1408, end="_shexp")
        else:
            feed_forward(model, number, 4096, 10944)
    model.add("blk.46.nextn.eh_proj.weight", 8192, 4096)
    model.add_norms(46, "nextn.enorm nextn.hnorm nextn.shared_head_norm", 4096)
    return model


def _phi3() -> Model:
    """Gate and up in one matrix, and a window that the engine does not use."""
    model = start(
        *("phi3", 40, 5120, 40, 10, 16384, 100352),
        feed_forward_length=17920,
        attention__sliding_window=2048,
        rope__dimension_count=128,
    )
    ends(model, 5120, 100352)
    for number in range(40):
        model.add_norms(number, "attn_norm ffn_norm", 5120)
        model.add(f"blk.{number}.attn_qkv.weight", 5120, 5120 + 2 * 1280)
        model.add(f"blk.{number}.attn_output.weight", 5120, 5120)
        model.add(f"blk.{number}.ffn_up.weight", 5120, 2 * 17920)
        model.add(f"blk.{number}.ffn_down.weight", 17920, 5120)
    return model


def _kimi_linear() -> Model:
    """Delta attention with a state, and latent attention every fourth layer."""
    latent = [number % 4 == 3 or number == 26 for number in range(27)]
    model = start(
        *("kimi-linear", 27, 2304, 32, 0, 1048576, 163840),
        attention__head_count_kv=[1 if one else 0 for one in latent],
        feed_forward_length=9216,
        attention__key_length=576,
        attention__value_length=512,
        attention__key_length_mla=192,
        attention__value_length_mla=128,
        attention__kv_lora_rank=512,
        kda__head_dim=128,
        ssm__conv_kernel=4,
        expert_count=256,
        expert_used_count=8,
        expert_shared_count=1,
        expert_gating_func=2,
        expert_feed_forward_length=1024,
        leading_dense_block_count=1,
        rope__dimension_count=64,
    )
    ends(model, 2304, 163840)
    for number in range(27):
        block = f"blk.{number}."
        model.add_norms(number, "attn_norm ffn_norm", 2304)
        if latent[number]:
            model.add_norms(number, "attn_kv_a_norm", 512)
            model.add(block + "attn_q.weight", 2304, 32 * 192)
            model.add(block + "attn_kv_a_mqa.weight", 2304, 576)
            model.add(block + "attn_k_b.weight", 128, 512, 32)
            model.add(block + "attn_v_b.weight", 512, 128, 32)
            model.add(block + "attn_output.weight", 32 * 128, 2304)
        else:
            attention(model, number, 2304, 4096, 4096)
            for name in "qkv":
                model.add(f"{block}ssm_conv1d_{name}.weight", 4, 1, 4096, kind="F32")
            for name in "fg":
                model.add(f"{block}ssm_{name}_a.weight", 2304, 128)
                model.add(f"{block}ssm_{name}_b.weight", 128, 4096)
            model.add(block + "ssm_beta.weight", 2304, 32)
            model.add(block + "ssm_a", 1, 32, kind="F32")
            model.add(block + "ssm_dt.bias", 4096, kind="F32")
            model.add(block + "ssm_norm.weight", 128, kind="F32")
        if number:
            experts(model, number, 2304, 1024, 256)
            model.add(block + "exp_probs_b.bias", 256, kind="F32")
            feed_forward(model, number, 2304, 1024, end="_shexp")
        else:
            feed_forward(model, number, 2304, 9216)
    return model


ODD_MODELS: dict[str, Callable[[], Model]] = {
    "gemma4": _gemma4,
    "gemma3n": _gemma3n,
    "llama4": _llama4,
    "lfm2": _lfm2,
    "mamba2": _mamba2,
    "nemotron_h": _nemotron_h,
    "glm4moe": _glm4moe,
    "phi3": _phi3,
    "kimi-linear": _kimi_linear,
}
