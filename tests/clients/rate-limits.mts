// A client that reads its rate limits with structured-headers, a library for Structured Field Values (RFC 9651).
//
// scripts/check-rate-limit-clients.sh type-checks this program, and runs it against a demo server with a new key. The
// key may make two calls in an hour, and its account ten in a day.

import { parseList } from "structured-headers";

declare const process: { env: Record<string, string | undefined> };

const HOUR = 3600;
const DAY = 86_400;

interface Limit {
  name: unknown;
  left: unknown;
  resetsIn: unknown;
}

function setting(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
}

function expectEqual(what: string, actual: unknown, expected: unknown): void {
  const [found, wanted] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (found !== wanted) throw new Error(`${what}: expected ${wanted}, got ${found}`);
}

function field(headers: Headers, name: string): string {
  const value = headers.get(name);
  if (value === null) throw new Error(`the response has no ${name}`);
  return value;
}

function policies(headers: Headers): unknown[] {
  const items = parseList(field(headers, "RateLimit-Policy"));
  return items.map(([name, parameters]) => [name, Object.fromEntries(parameters)]);
}

function limits(headers: Headers): Limit[] {
  const items = parseList(field(headers, "RateLimit"));
  return items.map(([name, parameters]) => ({ name, left: parameters.get("r"), resetsIn: parameters.get("t") }));
}

function isWithin(seconds: unknown, most: number): boolean {
  return typeof seconds === "number" && Number.isInteger(seconds) && seconds > 0 && seconds <= most;
}

const url = `${setting("TOLLGATE_URL")}/v1/authorize/tradetally/live`;
const key = setting("API_KEY");
for (const [status, ofKey, ofAccount] of [
  [200, 1, 9],
  [200, 0, 8],
  [429, 0, 8],
]) {
  const response = await fetch(url, { headers: { "X-API-Key": key } });
  await response.text();
  expectEqual("status", response.status, status);
  expectEqual("policies", policies(response.headers), [
    ["default", { q: 2, w: HOUR }],
    ["account:default", { q: 10, w: DAY }],
  ]);
  const found = limits(response.headers);
  expectEqual(
    "limits",
    found.map(({ name, left }) => [name, left]),
    [
      ["default", ofKey],
      ["account:default", ofAccount],
    ],
  );
  expectEqual("windows", found.map(({ resetsIn }, index) => isWithin(resetsIn, index === 0 ? HOUR : DAY)), [true, true]);
  const retryAfter = response.headers.get("Retry-After");
  if (status === 429) {
    expectEqual("Retry-After", isWithin(Number(retryAfter), HOUR), true);
  } else {
    expectEqual("Retry-After", retryAfter, null);
  }
}
console.log("ok: structured-headers parses the fields of two passes and of a refusal");
