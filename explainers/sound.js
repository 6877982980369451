"use strict";
// Sound in the page: the recording's parts, taken apart and put together as Python does it (adapters/spectra.py,
// explainers/parts.py). A mix is the inverse short-time Fourier transform of the recording's spectrum with every cell
// multiplied by whether its part is on; parts that overlap (stems, soft masks) come as sounds and are added.

class Fft {
  // Complex, in place, of any length: powers of two directly, all others by Bluestein's algorithm (1970).
  constructor(n) {
    this.n = n;
    if (n & (n - 1)) return this.prepareChirp(n);
    this.cos = Float64Array.from({ length: n / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / n));
    this.sin = Float64Array.from({ length: n / 2 }, (_, i) => Math.sin((2 * Math.PI * i) / n));
    this.order = new Uint32Array(n);
    for (let i = 0, bits = Math.log2(n); i < n; i++)
      for (let b = 0; b < bits; b++) if (i & (1 << b)) this.order[i] |= 1 << (bits - 1 - b);
  }

  prepareChirp(n) {
    const size = 2 ** Math.ceil(Math.log2(2 * n));
    this.inner = new Fft(size);
    this.chirp = Array.from({ length: n }, (_, i) => (Math.PI * ((i * i) % (2 * n))) / n);
    this.filterRe = new Float64Array(size);
    this.filterIm = new Float64Array(size);
    this.chirp.forEach((phase, i) => {
      for (const place of [i, (size - i) % size]) {
        this.filterRe[place] = Math.cos(phase);
        this.filterIm[place] = Math.sin(phase);
      }
    });
    this.inner.forward(this.filterRe, this.filterIm);
  }

  forward(re, im) {
    return this.inner ? this.byChirp(re, im) : this.byHalves(re, im);
  }

  inverse(re, im) {
    // Swapping the parts before and after turns the way around; the result is n times too large.
    this.forward(im, re);
  }

  byHalves(re, im) {
    const { n, order, cos, sin } = this;
    for (let i = 0; i < n; i++) {
      const j = order[i];
      if (j > i) {
        [re[i], re[j]] = [re[j], re[i]];
        [im[i], im[j]] = [im[j], im[i]];
      }
    }
    for (let half = 1; half < n; half *= 2) {
      const stride = n / (2 * half);
      for (let k = 0; k < half; k++) {
        const c = cos[k * stride], s = -sin[k * stride];
        for (let a = k; a < n; a += 2 * half) {
          const b = a + half, x = re[b] * c - im[b] * s, y = re[b] * s + im[b] * c;
          re[b] = re[a] - x; im[b] = im[a] - y;
          re[a] += x; im[a] += y;
        }
      }
    }
  }

  byChirp(re, im) {
    const { n, inner, chirp, filterRe, filterIm } = this;
    const size = inner.n, a = new Float64Array(size), b = new Float64Array(size);
    for (let i = 0; i < n; i++) {
      const c = Math.cos(chirp[i]), s = -Math.sin(chirp[i]);
      a[i] = re[i] * c - im[i] * s;
      b[i] = re[i] * s + im[i] * c;
    }
    inner.forward(a, b);
    for (let i = 0; i < size; i++) {
      const x = a[i] * filterRe[i] - b[i] * filterIm[i];
      b[i] = a[i] * filterIm[i] + b[i] * filterRe[i];
      a[i] = x;
    }
    inner.inverse(a, b);
    for (let i = 0; i < n; i++) {
      const c = Math.cos(chirp[i]), s = -Math.sin(chirp[i]);
      re[i] = (a[i] * c - b[i] * s) / size;
      im[i] = (a[i] * s + b[i] * c) / size;
    }
  }
}

class Stft {
  // Centred, zero-padded, periodic Hann window; frames lie one after the other, (nFrames, nBins).
  constructor(nFft, hop, nSamples) {
    Object.assign(this, { nFft, hop, nSamples, nBins: (nFft >> 1) + 1, nFrames: 1 + Math.floor(nSamples / hop) });
    this.fft = new Fft(nFft);
    this.window = Float64Array.from({ length: nFft }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / nFft));
    this.envelope = new Float64Array((this.nFrames - 1) * hop + nFft);
    for (let t = 0; t < this.nFrames; t++)
      for (let i = 0; i < nFft; i++) this.envelope[t * hop + i] += this.window[i] ** 2;
  }

  forward(samples) {
    const { nFft, hop, nBins, nFrames, window } = this, pad = nFft >> 1;
    const re = new Float32Array(nFrames * nBins), im = new Float32Array(nFrames * nBins);
    const a = new Float64Array(nFft), b = new Float64Array(nFft);
    for (let t = 0; t < nFrames; t += 2) {
      // two real frames in one complex transform
      for (let i = 0; i < nFft; i++) {
        const place = t * hop + i - pad;
        a[i] = (samples[place] || 0) * window[i];
        b[i] = t + 1 < nFrames ? (samples[place + hop] || 0) * window[i] : 0;
      }
      this.fft.forward(a, b);
      for (let f = 0; f < nBins; f++) {
        const m = (nFft - f) % nFft, at = t * nBins + f;
        re[at] = (a[f] + a[m]) / 2;
        im[at] = (b[f] - b[m]) / 2;
        if (t + 1 < nFrames) {
          re[at + nBins] = (b[f] + b[m]) / 2;
          im[at + nBins] = (a[m] - a[f]) / 2;
        }
      }
    }
    return { re, im };
  }

  inverse(re, im) {
    const { nFft, hop, nBins, nFrames, nSamples, window, envelope } = this, pad = nFft >> 1;
    const whole = new Float64Array(envelope.length), a = new Float64Array(nFft), b = new Float64Array(nFft);
    for (let t = 0; t < nFrames; t += 2) {
      const two = t + 1 < nFrames;
      for (let f = 0; f < nBins; f++) {
        const at = t * nBins + f, m = (nFft - f) % nFft, edge = f === m || 2 * f === nFft;
        const r = re[at], i = edge ? 0 : im[at], q = two ? re[at + nBins] : 0, p = two && !edge ? im[at + nBins] : 0;
        a[f] = r - p; b[f] = i + q;
        if (!edge) { a[m] = r + p; b[m] = q - i; }
      }
      this.fft.inverse(a, b);
      for (let i = 0; i < nFft; i++) {
        const w = window[i] / nFft;
        whole[t * hop + i] += a[i] * w;
        if (two) whole[(t + 1) * hop + i] += b[i] * w;
      }
    }
    const sound = new Float32Array(nSamples);
    for (let i = 0; i < nSamples && i + pad < whole.length; i++)
      sound[i] = whole[i + pad] / Math.max(envelope[i + pad], 1e-11);
    return sound;
  }
}

class Mixer {
  // x = Σ z_j part_j + (1 − z_j) off_j, for a mask z of parts.
  constructor(parts, samples) {
    this.k = parts.k;
    this.samples = samples;
    this.labels = parts.labels;
    this.sounds = parts.sounds;
    this.offs = parts.offs;
    this.stft = new Stft(parts.n_fft, parts.hop_length, samples.length);
    this.spectrum = this.stft.forward(samples);
    this.off = this.labels ? this.offSpectrum(parts) : null;
  }

  offSpectrum(parts) {
    if (parts.off === "silence") return null;
    const { re, im } = this.spectrum, { nBins, nFrames } = this.stft;
    const mean = new Float64Array(nBins);
    for (let at = 0; at < re.length; at++) mean[at % nBins] += Math.hypot(re[at], im[at]) / nFrames;
    const off = { re: new Float32Array(re.length), im: new Float32Array(re.length) };
    for (let at = 0; at < re.length; at++) {
      const phase = parts.phase ? (parts.phase[at] / 32767) * Math.PI : Math.atan2(im[at], re[at]);
      off.re[at] = mean[at % nBins] * Math.cos(phase);
      off.im[at] = mean[at % nBins] * Math.sin(phase);
    }
    return off;
  }

  mix(mask) {
    if (mask.every((on) => on)) return this.samples;
    return this.labels ? this.fromCells(mask) : this.fromSounds(mask);
  }

  fromCells(mask) {
    const { re, im } = this.spectrum, { labels, off } = this;
    const a = new Float32Array(re.length), b = new Float32Array(re.length);
    for (let at = 0; at < re.length; at++) {
      const from = mask[labels[at]] ? this.spectrum : off;
      if (from) { a[at] = from.re[at]; b[at] = from.im[at]; }
    }
    return this.stft.inverse(a, b);
  }

  fromSounds(mask) {
    const sound = new Float32Array(this.samples.length);
    mask.forEach((on, part) => {
      const from = on ? this.sounds[part] : this.offs && this.offs[part];
      if (from) for (let i = 0; i < sound.length; i++) sound[i] += from[i] || 0;
    });
    return sound;
  }
}

const asBytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

async function inflate(text) {
  const stream = new Blob([asBytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function decode(sound) {
  // At the sound's own rate, so that nothing is resampled.
  const context = new OfflineAudioContext(1, 1, sound.rate);
  const buffer = await context.decodeAudioData(asBytes(sound.data).buffer);
  const samples = new Float32Array(sound.n_samples);
  samples.set(buffer.getChannelData(0).subarray(0, sound.n_samples));
  if (sound.gain !== 1) for (let i = 0; i < samples.length; i++) samples[i] *= sound.gain;
  return samples;
}

function level(samples) {
  let sum = 0, peak = 0;
  for (const value of samples) { sum += value * value; peak = Math.max(peak, Math.abs(value)); }
  return { rms: Math.sqrt(sum / Math.max(1, samples.length)), peak };
}

class Player {
  // Plays one sound at a time from any place, and goes over to another one without a gap.
  constructor() { this.offset = 0; this.source = null; this.gain = 1; }

  set(samples, rate, gain) {
    const at = this.position;
    Object.assign(this, { samples, rate, gain });
    if (this.source) this.start(at); else this.offset = at;
  }

  get seconds() { return this.samples ? this.samples.length / this.rate : 0; }
  get playing() { return this.source !== null; }
  get position() {
    return this.source ? Math.min(this.offset + this.context.currentTime - this.since, this.seconds) : this.offset;
  }

  start(at) {
    this.context = this.context || new AudioContext();
    this.context.resume();
    this.fade();
    const { context } = this, buffer = context.createBuffer(1, this.samples.length, this.rate);
    buffer.copyToChannel(this.samples, 0);
    const source = context.createBufferSource(), volume = context.createGain();
    source.buffer = buffer;
    volume.gain.setValueAtTime(0, context.currentTime);
    volume.gain.linearRampToValueAtTime(this.gain, context.currentTime + 0.02);
    source.connect(volume).connect(context.destination);
    this.offset = at >= this.seconds - 0.01 ? 0 : at;
    this.since = context.currentTime;
    source.start(0, this.offset);
    source.onended = () => { if (this.source === source) this.stop(); };
    Object.assign(this, { source, volume });
  }

  stop() {
    this.offset = this.position;
    this.fade();
  }

  seek(at) {
    const place = Math.max(0, Math.min(at, this.seconds));
    if (this.source) this.start(place); else this.offset = place;
  }

  fade() {
    if (!this.source) return;
    const { source, volume, context } = this;
    this.source = null;
    volume.gain.cancelScheduledValues(context.currentTime);
    volume.gain.setTargetAtTime(0, context.currentTime, 0.008);
    source.stop(context.currentTime + 0.05);
  }
}
