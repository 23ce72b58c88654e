// Talks to the server.

import { type Citation, EventSplitter } from "./prepare";

export interface Assistant {
  id: string;
  description: string;
  grounded: boolean;
  default: boolean;
}

export interface Status {
  assistants: Assistant[];
  default: string;
  documents: { document: string; title: string; num_passages: number }[];
  behind: { stage: string; text: string; done: number; total: number } | null;
  report: boolean;
}

export interface Passage {
  id: string;
  document: string;
  title: string;
  page: number | null;
  heading: string | null;
  text: string;
  previous: string | null;
  next: string | null;
}

export interface Message {
  role: "user" | "assistant";
  content: string;
}

/** What the server refused, with its code. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly code: string | null,
  ) {
    super(message);
  }
}

/** Nothing answered at all. */
export class Unreachable extends Error {}

/** The stream ended without its end. */
export class Broken extends Error {}

export type Part =
  | { kind: "text"; text: string }
  | { kind: "finish"; reason: string; citations: Citation[] | null }
  | { kind: "usage"; completionTokens: number };

const KEY = "hearth-key";

async function send(path: string, init?: RequestInit): Promise<Response> {
  const headers = new Headers(init?.headers);
  const key = localStorage.getItem(KEY);
  if (key) headers.set("authorization", `Bearer ${key}`);
  try {
    return await fetch(path, { ...init, headers });
  } catch (error) {
    if (init?.signal?.aborted) throw error;
    throw new Unreachable();
  }
}

/** A server with keys is asked again with the user's, which this browser keeps; several requests ask once. */
let asking: Promise<boolean> | null = null;

async function askForKey(): Promise<boolean> {
  const key = window.prompt("This server asks for a key (sk-hearth-…) / 此服务器需要密钥");
  if (!key?.trim()) return false;
  localStorage.setItem(KEY, key.trim());
  return true;
}

async function request(path: string, init?: RequestInit): Promise<Response> {
  let response = await send(path, init);
  if (response.status === 401) {
    asking ??= askForKey().finally(() => (asking = null));
    if (await asking) response = await send(path, init);
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw new ApiError(body?.error?.message ?? `${response.status} ${response.statusText}`, body?.error?.code ?? null);
}

/** The models that can chat; an embedder stands in the same list. */
export async function fetchAssistants(): Promise<Assistant[]> {
  const { data } = await (await request("/v1/models")).json();
  return data.filter((model: { grounded?: boolean }) => model.grounded !== undefined);
}

export async function fetchStatus(): Promise<Status> {
  return (await request("/api/status")).json();
}

export async function fetchPassage(id: string): Promise<Passage> {
  return (await request(`/api/passages/${encodeURIComponent(id)}`)).json();
}

/** Streams an answer; ends with a `finish` part or throws. */
export async function* ask(model: string, messages: Message[], signal: AbortSignal): AsyncGenerator<Part> {
  const response = await request("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, messages, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  if (!response.body) throw new Broken();
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const splitter = new EventSplitter();
  for (;;) {
    const { done, value } = await reader.read().catch((error: unknown) => {
      if (signal.aborted) throw error;
      throw new Broken();
    });
    if (done) throw new Broken();
    for (const data of splitter.push(decoder.decode(value, { stream: true }))) {
      if (data === "[DONE]") return;
      yield* parts(JSON.parse(data));
    }
  }
}

interface Chunk {
  error?: { message: string; code: string | null };
  choices: { delta: { content?: string; citations?: Citation[] }; finish_reason: string | null }[];
  usage: { completion_tokens: number } | null;
}

function* parts(chunk: Chunk): Generator<Part> {
  if (chunk.error) throw new ApiError(chunk.error.message, chunk.error.code);
  const choice = chunk.choices[0];
  if (choice?.delta.content) yield { kind: "text", text: choice.delta.content };
  if (choice?.finish_reason) {
    yield { kind: "finish", reason: choice.finish_reason, citations: choice.delta.citations ?? null };
  }
  if (chunk.usage) yield { kind: "usage", completionTokens: chunk.usage.completion_tokens };
}
