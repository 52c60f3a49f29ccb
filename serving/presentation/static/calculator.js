// Sums by recursive descent: + - * / % ^ and parentheses. No text is ever run as a program.

/** The value of an expression such as "2 * (3 + 4)^2"; throws an Error that says where it is wrong. */
export function calculate(expression) {
  const tokens = expression.match(/\d+\.?\d*(?:e[+-]?\d+)?|\.\d+|\*\*|\S/gi) ?? [];
  let at = 0;
  const next = (...wanted) => (wanted.includes(tokens[at]) ? tokens[at++] : null);

  function sum() {
    let value = product();
    for (let sign = next("+", "-"); sign; sign = next("+", "-"))
      value = sign === "+" ? value + product() : value - product();
    return value;
  }

  function product() {
    let value = signed();
    for (let sign = next("*", "/", "%", "×", "÷"); sign; sign = next("*", "/", "%", "×", "÷")) {
      const other = signed();
      value = "*×".includes(sign) ? value * other : sign === "%" ? value % other : value / other;
    }
    return value;
  }

  function signed() {
    if (next("-")) return -signed();
    if (next("+")) return signed();
    return power();
  }

  function power() {
    const base = atom();
    return next("^", "**") ? base ** signed() : base;
  }

  function atom() {
    if (next("(")) {
      const value = sum();
      if (!next(")")) throw new Error(`")" is missing in ${expression}`);
      return value;
    }
    if (!/^[\d.]/.test(tokens[at] ?? ""))
      throw new Error(`expected a number instead of ${tokens[at] ?? "the end"} in ${expression}`);
    return Number(tokens[at++]);
  }

  const value = sum();
  if (at < tokens.length) throw new Error(`did not expect ${tokens[at]} in ${expression}`);
  return Number(value.toPrecision(15));
}
