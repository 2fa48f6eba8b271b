// A program that uses the generated TypeScript client. scripts/check-openapi.sh type-checks this program, but does not
// run it.
//
// Each switch handles every value of a closed set. `unreachable` compiles only if the generated type is a union of
// literals and the switch handles all of them.

import type { components, operations } from "tollgate";

type Schemas = components["schemas"];

type ProblemOf<Response> = Response extends { content: { "application/problem+json": infer Body } } ? Body : never;
type Declined = ProblemOf<operations["createPurchase"]["responses"][402]>;
type NotCapturable = ProblemOf<operations["captureHold"]["responses"][409]>;

function unreachable(value: never): never {
  throw new Error(`unexpected value: ${JSON.stringify(value)}`);
}

export function describeKey(key: Schemas["ApiKey"]): string {
  switch (key.status) {
    case "live":
      return key.enabled ? "live" : "disabled";
    case "revoked":
      return `revoked: ${key.revoked_reason ?? "no reason given"}`;
    case "expired":
      return `expired at ${key.expires_at ?? "an unknown time"}`;
    default:
      return unreachable(key.status);
  }
}

export function describeAccount(account: Schemas["Account"]): string {
  switch (account.status) {
    case "active":
    case "suspended":
      return `${account.id} is ${account.status}`;
    default:
      return unreachable(account.status);
  }
}

export function describeVerification(verification: Schemas["VerifyResponse"]): string {
  switch (verification.code) {
    case "VALID":
      return `valid for ${verification.scopes?.join(" ") ?? "nothing"}`;
    case "NOT_FOUND":
    case "REVOKED":
    case "EXPIRED":
    case "DISABLED":
    case "ACCOUNT_SUSPENDED":
    case "IP_NOT_ALLOWED":
      return "refused";
    case "INSUFFICIENT_SCOPE":
      return `lacks ${verification.missing_scopes?.join(" ") ?? "a scope"}`;
    case "RATE_LIMITED":
      return `over ${verification.limits?.join(" ") ?? "a limit"}`;
    case "INSUFFICIENT_BALANCE":
    case "SPEND_LIMIT_EXCEEDED":
      return `needs ${verification.required ?? "more"}`;
    default:
      return unreachable(verification.code);
  }
}

// The code of a problem determines its other members.
export function describeDeclined(problem: Declined): string {
  switch (problem.code) {
    case "insufficient_balance":
      return `${problem.required} of ${problem.available} ${problem.currency}`;
    case "spend_limit_exceeded":
      return `${problem.required} of ${problem.limit} ${problem.currency} each ${describePeriod(problem.period)}`;
    default:
      return unreachable(problem);
  }
}

export function describeNotCapturable(problem: NotCapturable): string {
  switch (problem.code) {
    case "hold_not_open":
      return problem.hold_status;
    case "hold_too_small":
      return problem.held;
    default:
      return unreachable(problem);
  }
}

function describePeriod(period: Schemas["SpendPeriod"]): string {
  switch (period) {
    case "day":
    case "month":
      return period;
    case "total":
      return "lifetime";
    default:
      return unreachable(period);
  }
}

export function isTransient(problem: Schemas["Problem"]): boolean {
  return problem.code === "unavailable" || problem.code === "request_timeout";
}

// Optional members may be absent. A closed set accepts no other value.
export const newKey: Schemas["CreateKeyRequest"] = { name: "trading bot 1", scopes: ["orders:write"] };
export const rotation: Schemas["RotateKeyRequest"] = {};
export const newHold: Schemas["CreateHoldRequest"] = { amount: "1.5" };
export const query: NonNullable<operations["listKeys"]["parameters"]["query"]> = { status: "all", limit: 100 };

// @ts-expect-error: no key has this status.
export const wrongStatus: Schemas["KeyStatus"] = "dead";
// @ts-expect-error: no problem has this code.
export const wrongCode: Schemas["ProblemCode"] = "out_of_money";
// @ts-expect-error: the filter does not accept this value.
export const wrongQuery: NonNullable<operations["listKeys"]["parameters"]["query"]> = { status: "dead" };
// @ts-expect-error: no account has this status.
export const wrongPatch: Schemas["PatchAccountRequest"] = { status: "closed" };
