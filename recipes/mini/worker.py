# SPDX-License-Identifier: Apache-2.0
"""Speaks the utterances of one job with eSpeak NG: `python recipes/mini/worker.py JOB.json`.

eSpeak NG is GPL-3.0: this file is run as a program of its own and imported by nothing. It needs
numpy and soundfile only, so that it starts quickly (scipy.signal takes 3 s to import).

The job is a JSON object:
  variants    voice name -> text of an eSpeak voice variant
  utterances  list of objects: path (.flac or .wav to write), voice (`language+variant`), sentences
              (text as eSpeak reads it), num_words (one a sentence), pauses (seconds of silence
              before each sentence and after the last), speed (words a minute), pitch and range (0
              to 99), colour (of the channel: pairs of hertz and gain in dB; none: it changes
              nothing), level_db (of the speech, RMS re full scale), floor_db (of the noise floor),
              seed (of that noise)
  words       optional: words to be said one by one, of which the phones alone are wanted
  word_voice  of those

One line goes to stdout for each utterance, `JOB.out.json` is written at the end. It holds the
version of eSpeak NG and, in the order of the job: samples (of the file, 16 kHz), sha256 (of the
int16 samples) and phones, a list of [eSpeak mnemonic, start sample, end sample, word], where word
counts from 0 within the utterance and is -1 in a pause; and words, the mnemonics of each.

eSpeak NG keeps some state from one utterance to the next, so the bytes depend on all that was said
before in the same process: the same job gives the same bytes, a cut of it need not.

Interface: espeak-ng/speak_lib.h of eSpeak NG 1.52.
"""

import ctypes
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from wavlm_lightning.shipped import extras

SAMPLE_RATE = 16000
NATIVE_RATE = 22050  # of eSpeak's formant synthesizer
UP, DOWN = 320, 441  # 22050 Hz -> 16000 Hz
PASS_HZ = 7600  # the resampler passes all up to here and nothing above 8000 Hz
PEAK = 0.95  # largest sample written, re full scale

_RETRIEVAL = 1  # AUDIO_OUTPUT_RETRIEVAL: samples go to the callback
_OPTIONS = 0x8001  # espeakINITIALIZE_DONT_EXIT | espeakINITIALIZE_PHONEME_EVENTS
_FLAGS = 0x101  # espeakCHARS_UTF8 | espeakPHONEMES: [[...]] holds mnemonics
_END, _WORD, _PHONEME = 0, 1, 7  # espeak_EVENT_TYPE
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_RAND_SEED = 1


class _Id(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)
Phone = tuple[str, int, int]  # mnemonic, first sample at the native rate, word (-1: pause)


class Espeak:
    """The library with some voice variants added. At most one can live in a process."""

    def __init__(self, variants: dict[str, str], folder: Path) -> None:
        """Lay out data with `variants` (name -> text) in `folder`, and start the library on it."""
        try:
            import espeakng_loader
        except ImportError:
            raise SystemExit(
                "espeakng-loader is not installed (eSpeak NG speaks the mini corpus): "
                f"{extras('mini')}"
            ) from None
        _lay_out(Path(espeakng_loader.get_data_path()), variants, folder / "espeak-ng-data")
        self.library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        self.library.espeak_Info.restype = ctypes.c_char_p
        self.library.espeak_Synth.argtypes = (
            *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int),
            *(ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p),
        )
        home = os.fsencode(folder)
        if self.library.espeak_Initialize(_RETRIEVAL, 0, home, _OPTIONS) != NATIVE_RATE:
            raise SystemExit(f"eSpeak NG did not start on {folder}: reinstall espeakng-loader")
        self._callback = _Callback(self._receive)  # kept: the library holds only a pointer
        self.library.espeak_SetSynthCallback(self._callback)
        self._clear()

    def version(self) -> str:
        """Version of the library, such as 1.52.0."""
        return str(self.library.espeak_Info(None).decode())

    def say(
        self, text: str, voice: str, *, speed: int, pitch: int, range_: int
    ) -> tuple[np.ndarray, list[Phone], int]:
        """Waveform (T,) float64 at 22050 Hz, its phones in order, and the number of words said."""
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise SystemExit(f"eSpeak NG has no voice {voice!r}")
        for parameter, value in ((_RATE, speed), (_PITCH, pitch), (_RANGE, range_)):
            self.library.espeak_SetParameter(parameter, value, 0)
        self.library.espeak_ng_SetRandSeed(ctypes.c_long(_RAND_SEED))  # of breath; else the clock
        self._clear()
        data = text.encode()
        self.library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _FLAGS, None, None)
        self.library.espeak_Synchronize()
        waveform = np.concatenate([np.zeros(0, np.int16), *self._chunks]) / 32768
        return waveform, self._phones, self._num_words

    def _clear(self) -> None:
        self._chunks: list[np.ndarray] = []
        self._phones: list[Phone] = []
        self._num_words = 0

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        index = 0
        while events[index].type != _END:
            event = events[index]
            if event.type == _WORD:
                self._num_words += 1
            elif event.type == _PHONEME:
                # The array of 8 bytes, not the C string: a mnemonic of 8 has no closing zero.
                mnemonic = bytes(event.id.string).split(b"\0")[0].decode()
                word = -1 if mnemonic.startswith("_") else self._num_words - 1
                self._phones.append((mnemonic, event.sample, word))
            index += 1
        return 0


def _lay_out(source: Path, variants: dict[str, str], target: Path) -> None:
    """eSpeak's data folder by links, with our voice variants instead of the stock ones.

    The library lists at most 349 voices, so only the Germanic languages (English) come along.
    """
    (target / "voices" / "!v").mkdir(parents=True)
    (target / "lang").mkdir()
    for path in source.iterdir():
        if path.name not in ("voices", "lang"):
            (target / path.name).symlink_to(path)
    (target / "lang" / "gmw").symlink_to(source / "lang" / "gmw")
    for name, text in variants.items():
        (target / "voices" / "!v" / name).write_text(text)


def speak(
    espeak: Espeak, utterance: dict[str, Any]
) -> tuple[np.ndarray, list[tuple[str, int, int, int]]]:
    """Samples (T,) int16 at 16 kHz and the phones (mnemonic, start, end, word) of one utterance."""
    parts: list[np.ndarray] = []
    phones: list[Phone] = []
    position = words = 0
    for text, pause, expected in zip(
        utterance["sentences"], utterance["pauses"], utterance["num_words"], strict=False
    ):
        parts.append(np.zeros(round(pause * NATIVE_RATE)))
        phones.append(("_", position, -1))
        position += len(parts[-1])
        waveform, said, num_words = espeak.say(
            text,
            utterance["voice"],
            speed=utterance["speed"],
            pitch=utterance["pitch"],
            range_=utterance["range"],
        )
        if num_words != expected:
            raise SystemExit(f"eSpeak NG made {num_words} words of {expected}: {text!r}")
        phones.append(("_", position, -1))  # its own silence before the first phone
        phones += [(name, position + at, word + words * (word >= 0)) for name, at, word in said]
        parts.append(waveform)
        position += len(waveform)
        words += num_words
    phones.append(("_", position, -1))
    parts.append(np.zeros(round(utterance["pauses"][-1] * NATIVE_RATE)))

    samples = _record(np.concatenate(parts), utterance)
    starts = [round(at * UP / DOWN) for _, at, _ in phones]
    ends = [*starts[1:], len(samples)]
    timed = zip(phones, starts, ends, strict=True)
    return samples, [(name, start, end, word) for (name, _, word), start, end in timed]


def pronounce(espeak: Espeak, word: str, voice: str) -> list[str]:
    """Mnemonics of a word said alone, pauses left out."""
    _, phones, _ = espeak.say(word, voice, speed=165, pitch=50, range_=50)
    return [mnemonic for mnemonic, _, place in phones if place >= 0]


def _record(waveform: np.ndarray, utterance: dict[str, Any]) -> np.ndarray:
    """Samples (T,) int16 at 16 kHz of a waveform at 22050 Hz: level set, noise floor, no clip."""
    waveform = resample(waveform)
    if utterance["colour"]:
        waveform = colour(waveform, utterance["colour"])
    speech = waveform[np.abs(waveform) > 1e-3]
    gain = 10 ** (utterance["level_db"] / 20) / np.sqrt(np.mean(speech**2))
    gain = min(gain, PEAK / np.abs(waveform).max())
    floor = np.random.default_rng(utterance["seed"]).standard_normal(len(waveform))
    noisy = gain * waveform + 10 ** (utterance["floor_db"] / 20) * floor
    return np.round(32767 * np.clip(noisy, -1, 1)).astype(np.int16)


def resample(waveform: np.ndarray) -> np.ndarray:
    """Waveform (T,) at 22050 Hz -> (ceil(T * 320 / 441),) at 16 kHz, by cutting its spectrum."""
    blocks = -(-len(waveform) // (32 * DOWN)) * 32  # a length whose transform is quick
    spectrum = np.fft.rfft(waveform, blocks * DOWN)[: blocks * UP // 2 + 1]
    hertz = np.fft.rfftfreq(blocks * UP, 1 / SAMPLE_RATE)
    ramp = np.clip((hertz - PASS_HZ) / (SAMPLE_RATE / 2 - PASS_HZ), 0, 1)
    out = np.fft.irfft(spectrum * np.cos(np.pi / 2 * ramp) ** 2, blocks * UP) * (UP / DOWN)
    return out[: -(-len(waveform) * UP // DOWN)]


def colour(waveform: np.ndarray, gains: list[list[float]]) -> np.ndarray:
    """Waveform (T,) with `gains` (pairs of hertz and dB, interpolated over log frequency)."""
    blocks = -(-len(waveform) // 4096) * 4096  # a length whose transform is quick
    hertz = np.fft.rfftfreq(blocks, 1 / SAMPLE_RATE)
    points, decibels = np.array(gains).T
    decibels = np.interp(np.log(np.maximum(hertz, 1)), np.log(points), decibels)
    out = np.fft.irfft(10 ** (decibels / 20) * np.fft.rfft(waveform, blocks), blocks)
    return out[: len(waveform)]


def main(job_path: Path) -> None:
    """Do the job, write `JOB.out.json` beside it."""
    job = json.loads(job_path.read_text(encoding="utf-8"))
    parent = os.getppid()
    results = []
    with tempfile.TemporaryDirectory(prefix="espeak-") as folder:
        espeak = Espeak(job["variants"], Path(folder))
        for utterance in job["utterances"]:
            if os.getppid() != parent:
                raise SystemExit("the program that asked for this job has ended")
            samples, phones = speak(espeak, utterance)
            try:
                soundfile.write(utterance["path"], samples, SAMPLE_RATE)
            except (OSError, soundfile.LibsndfileError) as error:
                raise SystemExit(f"cannot write {utterance['path']}: {error}") from None
            digest = hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()
            results.append({"samples": len(samples), "sha256": digest, "phones": phones})
            print(utterance["path"], flush=True)
        words = [pronounce(espeak, word, job["word_voice"]) for word in job.get("words", [])]
    out = {"espeak": espeak.version(), "utterances": results, "words": words}
    job_path.with_suffix(".out.json").write_text(json.dumps(out), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: {sys.argv[0]} JOB.json")
    main(Path(sys.argv[1]))
