// A live conversation over /v1/realtime: events out, events in, and when what happened. Knows nothing of the screen.

import { socketProtocols } from "./api.js";
import { decoded, encoded, Loudspeaker } from "./sound.js";

export const SILENCE = 500; // milliseconds after which a turn is over

export class LiveSession extends EventTarget {
  #socket;
  #speaker = new Loudspeaker();
  #pieces = 0; // of sound that were sent
  #began = 0; // when the first of them was
  #answer = null; // {id, item}: the one that is being given
  #spoken = null; // the item that is heard
  #marks = null; // of this turn, in milliseconds of performance.now()

  /** `openMic`: the server finds out when somebody's turn is over; else `commit` says so. Throws when refused. */
  async open(model, openMic, { instructions, tools }) {
    const address = new URL("v1/realtime", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    address.searchParams.set("model", model);
    this.#socket = new WebSocket(address, socketProtocols());
    await new Promise((done, failed) => {
      this.#socket.onopen = done;
      this.#socket.onclose = () =>
        failed(new Error("no live conversation: the server has no voice (lifecycle voice setup), or holds as many as it can"));
    });
    this.#socket.onclose = ({ reason }) => this.#tell("closed", { reason });
    this.#socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    this.send("session.update", {
      session: {
        type: "realtime",
        instructions,
        tools: tools.map(({ function: described }) => ({ type: "function", ...described })),
        audio: { input: { turn_detection: openMic ? { type: "server_vad", silence_duration_ms: SILENCE } : null } },
      },
    });
  }

  send(type, fields = {}) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ type, ...fields }));
  }

  /** Words of before: [{role, content}]. */
  remember(messages) {
    for (const { role, content } of messages) {
      const part = { type: role === "assistant" ? "output_text" : "input_text", text: content };
      this.send("conversation.item.create", { item: { type: "message", role, content: [part] } });
    }
  }

  hear(samples) {
    if (!this.#pieces) this.#began = performance.now();
    this.#pieces += 1;
    this.send("input_audio_buffer.append", { audio: encoded(samples) });
  }

  /** Push to talk: what is said from here on is a turn. */
  beginTurn() {
    this.interrupt();
    this.send("input_audio_buffer.clear");
  }

  /** Push to talk: that was it. */
  endTurn() {
    this.#marks = { end: performance.now() };
    this.send("input_audio_buffer.commit");
    this.send("response.create");
  }

  result(call, output) {
    this.send("conversation.item.create", { item: { type: "function_call_output", call_id: call, output } });
  }

  /** Silence, now; the history ends with what was heard. */
  interrupt() {
    const wasPlaying = this.#speaker.isPlaying;
    if (this.#answer) this.send("response.cancel", { response_id: this.#answer });
    this.#answer = null;
    if (wasPlaying) this.#hush();
    return wasPlaying;
  }

  #hush() {
    const heard = this.#speaker.flush();
    if (this.#spoken) {
      this.send("conversation.item.truncate", { item_id: this.#spoken, content_index: 0, audio_end_ms: heard });
      this.send("conversation.item.retrieve", { item_id: this.#spoken });
    }
  }

  get isAnswering() {
    return this.#answer !== null || this.#speaker.isPlaying;
  }

  close() {
    this.#speaker.close();
    this.#socket?.close();
  }

  #receive(event) {
    const now = performance.now();
    switch (event.type) {
      case "input_audio_buffer.speech_started":
        if (this.#speaker.isPlaying) this.#hush();
        break;
      case "input_audio_buffer.speech_stopped":
        this.#marks = { end: this.#began + event.audio_end_ms - SILENCE };
        break;
      case "conversation.item.input_audio_transcription.completed":
        this.#mark("transcript", now);
        break;
      case "response.created":
        this.#answer = event.response.id;
        this.#speaker.begin();
        break;
      case "response.output_audio_transcript.delta":
        this.#mark("token", now);
        break;
      case "response.output_audio.delta":
        if (event.response_id !== this.#answer) return; // it was interrupted
        this.#mark("sound", now);
        this.#spoken = event.item_id;
        this.#speaker.play(decoded(event.delta));
        break;
      case "response.done":
        if (event.response.id === this.#answer) this.#answer = null;
        break;
    }
    this.#tell("event", event);
  }

  #mark(name, now) {
    if (!this.#marks || name in this.#marks) return;
    this.#marks[name] = now;
    this.#tell("latency", this.#marks);
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
