"""Speech models of transformers, tiny and random: the adapter says what the model itself says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from serving.application.speech import Audio
from serving.domain.errors import InvalidRequest, SpeechMissing
from serving.infrastructure.speech.config import SpeechConfig, load_hearing, load_speaking
from serving.infrastructure.speech.resampling import at_speed

TEXT = "the quick brown fox jumps over the lazy dog"


def word_tokenizer(directory, **special):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<s>", "</s>", "<pad>", "<unk>", *sorted(set(TEXT.split())), *(f"w{at}" for at in range(40))]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


@pytest.fixture(scope="module")
def moonshine_directory(tmp_path_factory):
    import torch
    from transformers import (
        MoonshineConfig,
        MoonshineForConditionalGeneration,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2Processor,
    )

    directory = tmp_path_factory.mktemp("moonshine")
    torch.manual_seed(0)
    config = MoonshineConfig(
        vocab_size=52, hidden_size=32, intermediate_size=64, encoder_num_hidden_layers=1, decoder_num_hidden_layers=1,
        encoder_num_attention_heads=2, decoder_num_attention_heads=2, max_position_embeddings=128,
        decoder_start_token_id=10, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    MoonshineForConditionalGeneration(config).save_pretrained(directory)
    extractor = Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=16000, return_attention_mask=True)
    Wav2Vec2Processor(extractor, word_tokenizer(directory)).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def whisper_directory(tmp_path_factory):
    import torch
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    directory = tmp_path_factory.mktemp("whisper")
    torch.manual_seed(0)
    signs = [*"abcdefghijklmnopqrstuvwxyz", "\u0120"]  # the last one is how byte-level BPE writes a space
    vocabulary = {sign: at for at, sign in enumerate([*signs, "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"])}
    (directory / "vocab.json").write_text(json.dumps(vocabulary))
    (directory / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = WhisperTokenizer(vocab=str(directory / "vocab.json"), merges=str(directory / "merges.txt"))
    WhisperProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer).save_pretrained(directory)
    config = WhisperConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_target_positions=64,
        decoder_start_token_id=7, bos_token_id=27, eos_token_id=27, pad_token_id=27, begin_suppress_tokens=None,
    )  # fmt: skip
    WhisperForConditionalGeneration(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def vits_directory(tmp_path_factory):
    import torch
    from transformers import VitsConfig, VitsModel, VitsTokenizer

    directory = tmp_path_factory.mktemp("vits")
    torch.manual_seed(0)
    (directory / "vocab.json").write_text(json.dumps({sign: at for at, sign in enumerate("_ abcdefghijklmnopqrstuvwxyz'")}))
    VitsTokenizer(str(directory / "vocab.json"), pad_token="_", phonemize=False, is_uroman=False).save_pretrained(directory)
    config = VitsConfig(
        vocab_size=29, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16, flow_size=16,
        spectrogram_bins=9, num_speakers=2, speaker_embedding_size=8, prior_encoder_num_flows=2,
        prior_encoder_num_wavenet_layers=1, posterior_encoder_num_wavenet_layers=1, duration_predictor_num_flows=1,
        upsample_initial_channel=16, upsample_rates=[8, 8], upsample_kernel_sizes=[16, 16],
        resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1]], use_stochastic_duration_prediction=False,
        noise_scale=0.0, sampling_rate=16000,
    )  # fmt: skip
    VitsModel(config).save_pretrained(directory)
    return directory


@pytest.mark.parametrize("family", ["moonshine", "whisper"])
def test_the_adapter_hears_what_the_model_generates(family, request):
    import torch
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

    directory = request.getfixturevalue(f"{family}_directory")
    engine = load_hearing(SpeechConfig(speech_to_text=str(directory)))
    samples = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    transcript = engine.transcribe(Audio(samples, 16000))
    model, processor = (kind.from_pretrained(directory) for kind in (AutoModelForSpeechSeq2Seq, AutoProcessor))
    with torch.inference_mode():
        inputs = processor(samples, sampling_rate=16000, return_tensors="pt")
        own = model.generate(**inputs, max_new_tokens=24, do_sample=False)
    assert transcript.text == processor.batch_decode(own, skip_special_tokens=True)[0].strip() != ""
    (segment,) = transcript.segments
    assert (segment.text, segment.start, segment.end) == (transcript.text, 0.0, 1.0)
    assert engine.transcribe(Audio(samples * 0, 16000)).text == ""
    assert engine.transcribe(Audio(samples, 8000)).segments[0].end == pytest.approx(2.0, abs=0.01)


def test_a_model_of_several_languages_is_told_which_one_is_spoken(whisper_directory, monkeypatch):
    engine = load_hearing(SpeechConfig(speech_to_text=str(whisper_directory)))
    told = []
    generate = engine._model.generate
    monkeypatch.setattr(engine._model, "generate", lambda *given, language=None, **how: told.append(language) or generate(*given, **how))
    sound = Audio(np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32), 16000)
    for several in (False, True):
        engine._model.generation_config.is_multilingual = several
        engine.transcribe(sound, "de")
    assert told == [None, "de"]


def test_vits_speaks_sentence_by_sentence_in_its_voices_at_any_speed(vits_directory):
    engine = load_speaking(SpeechConfig(text_to_speech=str(vits_directory)))
    assert engine.voices == ("0", "1") and engine.rate == 16000
    chunks = list(engine.speak("The quick brown fox. ... It jumps!"))
    assert [chunk.text for chunk in chunks] == ["The quick brown fox.", "It jumps!"]
    assert all(len(chunk.audio.samples) and np.abs(chunk.audio.samples).max() <= 1 for chunk in chunks)

    def said(**how):
        return next(engine.speak(TEXT, **how)).audio.samples

    assert (said() == said(voice="0")).all() and len(said(voice="1")) and not np.array_equal(said(), said(voice="1"))
    assert len(said(speed=0.5)) > len(said()) >= len(said(speed=2.0))
    with pytest.raises(InvalidRequest):
        engine.speak(TEXT, voice="2")


@pytest.fixture(scope="module")
def speecht5_directory(tmp_path_factory):
    import torch
    from transformers import SpeechT5Config, SpeechT5ForTextToSpeech, SpeechT5HifiGan, SpeechT5HifiGanConfig

    directory = tmp_path_factory.mktemp("speecht5")
    torch.manual_seed(0)
    config = SpeechT5Config(
        vocab_size=52, hidden_size=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=16, num_mel_bins=8, speech_decoder_prenet_units=8,
        speech_decoder_prenet_dropout=0.0, speech_decoder_postnet_units=8, speech_decoder_postnet_layers=2, speaker_embedding_dim=4,
        pad_token_id=2, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    model = SpeechT5ForTextToSpeech(config)
    torch.nn.init.constant_(model.speech_decoder_postnet.prob_out.bias, -10)  # it talks as long as it may
    model.save_pretrained(directory)
    vocoder = SpeechT5HifiGanConfig(
        model_in_dim=8, sampling_rate=16000, upsample_initial_channel=16, upsample_rates=[8, 8],
        upsample_kernel_sizes=[16, 16], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1]],
    )  # fmt: skip
    SpeechT5HifiGan(vocoder).save_pretrained(directory / "vocoder")
    word_tokenizer(directory).save_pretrained(directory)
    (directory / "speakers").mkdir()
    for at, name in enumerate(("anna", "tom")):
        np.save(directory / "speakers" / f"{name}.npy", np.random.default_rng(at).normal(0, 3, 4))
    return directory


def test_speecht5_speaks_like_those_whose_vectors_it_has(speecht5_directory):
    import torch
    from transformers import AutoTokenizer, SpeechT5ForTextToSpeech, SpeechT5HifiGan

    engine = load_speaking(SpeechConfig(text_to_speech=str(speecht5_directory)))
    assert engine.voices == ("anna", "tom") and engine.rate == 16000

    def said(**how):
        return next(engine.speak(TEXT, **how)).audio.samples

    model, vocoder = SpeechT5ForTextToSpeech.from_pretrained(speecht5_directory), SpeechT5HifiGan.from_pretrained(speecht5_directory / "vocoder")
    tokens = AutoTokenizer.from_pretrained(speecht5_directory)(TEXT, return_tensors="pt")["input_ids"]
    vector = torch.from_numpy(np.load(speecht5_directory / "speakers" / "tom.npy").astype(np.float32))[None]
    torch.testing.assert_close(torch.from_numpy(said(voice="tom")), model.eval().generate_speech(tokens, vector, vocoder=vocoder.eval()))
    assert not np.array_equal(said(voice="anna"), said(voice="tom"))
    assert len(said(speed=2.0)) == pytest.approx(len(said()) / 2, rel=0.2)


def test_speecht5_without_a_voice_says_what_to_do(speecht5_directory, tmp_path):
    def load():
        load_speaking(SpeechConfig(text_to_speech=str(speecht5_directory), speakers_dir=str(tmp_path)))

    with pytest.raises(SpeechMissing, match="--set speakers_dir=DIR"):
        load()
    np.save(tmp_path / "eve.npy", np.zeros(3))
    with pytest.raises(SpeechMissing, match='"eve" must have 4 numbers'):
        load()
    (tmp_path / "eve.npy").write_bytes(b"rubbish")
    with pytest.raises(SpeechMissing, match="cannot be read"):
        load()


@pytest.mark.parametrize("speed", [0.25, 0.5, 1.0, 1.7, 4.0])
def test_sound_at_another_speed_is_as_high_as_before(speed):
    rate, pitch = 16000, 440
    tone = np.sin(2 * np.pi * pitch * np.arange(2 * rate) / rate).astype(np.float32)
    other = at_speed(Audio(tone, rate), speed)
    assert other.seconds == pytest.approx(2 / speed, rel=0.1) and other.rate == rate
    spectrum = np.abs(np.fft.rfft(other.samples))
    assert spectrum.argmax() * rate / len(other.samples) == pytest.approx(pitch, rel=0.02)


@pytest.mark.parametrize("load", [load_hearing, load_speaking])
def test_what_is_no_speech_model_is_named(tmp_path, load):
    with pytest.raises(SpeechMissing, match="speech model that can be loaded here"):
        load(SpeechConfig(speech_to_text=str(tmp_path), text_to_speech=str(tmp_path)))
