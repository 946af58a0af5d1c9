"""Small configs of the families of architectures: a table of sizes, and what a family needs beyond it."""

import inspect
from typing import Any

import transformers as hf
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

VOCABULARY = 384
POSITIONS = 64

HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads")
HEADS += ("decoder_attention_heads", "num_encoder_attention_heads", "num_decoder_attention_heads")
LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers")
LAYERS += ("num_decoder_layers", "num_encoder_layers")
WIDTHS = ("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "emb_dim", "embed_dim")
WIDTHS += ("word_embed_proj_dim",)
INNER = ("intermediate_size", "ffn_dim", "d_ff", "n_inner", "encoder_ffn_dim", "decoder_ffn_dim", "d_inner")
INNER += ("ffn_hidden_size", "hidden_dim", "mamba_d_ssm")
LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")
LENGTHS += ("original_max_position_embeddings",)
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
EXPERT_WIDTHS = ("moe_intermediate_size", "shared_expert_intermediate_size", "moe_ffn_hidden_size")
EXPERT_WIDTHS += ("expert_ffn_hidden_size",)

SIZES: dict[str, Any] = {
    **dict.fromkeys(HEADS, 4),
    **dict.fromkeys(LAYERS, 2),
    **dict.fromkeys(WIDTHS, 32),
    **dict.fromkeys(INNER, 64),
    **dict.fromkeys(LENGTHS, POSITIONS),
    **dict.fromkeys(EXPERTS, 4),
    **dict.fromkeys(EXPERT_WIDTHS, 16),
    **dict.fromkeys(("head_dim", "d_kv", "kv_channels"), 8),
    **dict.fromkeys(("vocab_size", "src_vocab_size", "tgt_vocab_size"), VOCABULARY),
    # experts
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts"), 1),
    # attention
    "num_key_value_heads": 2,
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "qk_head_dim"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("sliding_window", "attention_window", "local_attention"), 16),
    # states
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "linear_num_value_heads"), 4),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "chunk_size", "mamba_chunk_size"), 16),
    **dict.fromkeys(("mamba_d_state", "ssm_state_size", "state_size"), 8),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8),
    **dict.fromkeys(("mamba_n_groups", "n_groups"), 1),
    **dict.fromkeys(("n_mamba_heads", "linear_num_key_heads"), 2),
    # tokens
    "pad_token_id": 0,
    "eos_token_id": 1,
    "sep_token_id": 1,
    "bos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
    "forced_bos_token_id": None,
}

TEXT_ALONE = ("gemma3",)  # families with other parts, which are small enough here, and serve text alone
OTHER_DATA = ("vision", "audio", "image", "vq", "acoustic", "tower", "projector", "patcher", "tokenizer")

LATENT = {"head_dim": 8, "num_key_value_heads": 4}
LINEAR = {"layer_types": ["linear_attention", "full_attention"]}
BERT = {
    "model_type": "bert",
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
}
FAMILIES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        ("axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots3_note_text"), LATENT
    ),
    **dict.fromkeys(("glm4_moe_lite", "glm_moe_dsa", "longcat_flash", "minicpm3", "youtu"), LATENT),
    **dict.fromkeys(("qwen3_5_moe_text", "qwen3_5_text", "qwen3_next"), LINEAR),
    "bailing_hybrid": {**LATENT, "layer_group_size": 2},
    "bamba": {"attn_layer_indices": [1]},
    "codegen": {"rotary_dim": 8},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 16},
    },
    "encoder-decoder": {
        "encoder": BERT,
        "decoder": {**BERT, "is_decoder": True, "add_cross_attention": True},
        "vocab_size": VOCABULARY,
    },
    "esmc": {"num_key_value_heads": 4},
    "gemma3": {
        "vision_config": {
            "model_type": "siglip_vision_model",
            "image_size": 28,
            "patch_size": 14,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
        },
        "mm_tokens_per_image": 4,
    },
    "gemma3n_text": {
        "num_kv_shared_layers": 0,
        "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 4,
    },
    "gemma4_text": {
        "num_kv_shared_layers": 0,
        "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size_per_layer_input": 8,
        "global_head_dim": 8,
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 16},
    "gptj": {"rotary_dim": 8},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
    },
    "kimi_linear": LATENT | LINEAR,
    "layoutlmv3": {"hidden_size": 24, "coordinate_size": 4, "shape_size": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "lfm3": {"layer_types": ["conv", "full_attention"]},
    "lilt": {"hidden_size": 48},
    "luke": {"entity_vocab_size": 16, "entity_emb_size": 8},
    "mistral4": {"num_key_value_heads": 4, "head_dim": 16},
    "modernbert": {"max_position_embeddings": POSITIONS},
    "mamba2": {"head_dim": 16},
    "neomme": {"head_dim": 16},
    "perceiver": {
        "num_latents": 8,
        "d_latents": 32,
        "num_self_attends_per_block": 2,
        "num_self_attention_heads": 4,
        "num_cross_attention_heads": 4,
    },
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {"axial_pos_shape": [8, 8], "axial_pos_embds_dim": [16, 16], "is_decoder": False},
    "roc_bert": {
        "pronunciation_vocab_size": 20,
        "shape_vocab_size": 20,
        "pronunciation_embed_dim": 8,
        "shape_embed_dim": 8,
    },
    "xmod": {"default_language": "en_XX"},
    "t5": {"decoder_start_token_id": 0},
    "zamba": {"num_hidden_layers": 4, "layer_types": ["mamba", "hybrid", "mamba", "hybrid"]},
    "zamba2": {
        "num_hidden_layers": 4,
        "layer_types": ["mamba", "hybrid", "mamba", "hybrid"],
        "hybrid_layer_ids": [1, 3],
        "num_mem_blocks": 1,
    },
    "zaya": {"num_experts_per_tok": 1},
}


def reads_text_only(model_type: str) -> bool:
    """Return whether a family has no part for images, sound or other data than text."""
    parts = CONFIG_MAPPING[model_type].sub_configs or {}
    return model_type in TEXT_ALONE or not any(kind in part for part in parts for kind in OTHER_DATA)


def tiny_config(model_type: str, **settings: Any) -> Any:
    """Return a family's config with small sizes; `settings` override them."""
    return _tiny(CONFIG_MAPPING[model_type], settings)


def _tiny(config_class: Any, settings: dict[str, Any]) -> Any:
    names = inspect.signature(config_class).parameters
    sizes = {name: value for name, value in SIZES.items() if name in names}
    parts = {
        name: _tiny(part, {})
        for name, part in (config_class.sub_configs or {}).items()
        if part is not hf.AutoConfig and name in names
    }
    return config_class(**{**sizes, **parts, **FAMILIES.get(config_class.model_type, {}), **settings})
