/*
 * The confusion matrix: a row for each label that texts have, a column for each that they got. Of many labels
 * those with the most errors are shown, labels that are taken for each other side by side.
 */
import { useMemo, useState } from "preact/hooks";
import { integer } from "./ui.jsx";

export const NONE = "no route";

/* { names, rows: Map(expected -> Map(predicted -> count)), sums, errors } of an evaluation's cells. */
function tabulate({ labels, confusion }) {
  const name = (index) => (index < 0 ? NONE : labels[index]);
  const rows = new Map();
  const sums = new Map();
  const errors = new Map();
  const add = (map, key, n) => map.set(key, (map.get(key) || 0) + n);
  for (const [expected, predicted, n] of confusion) {
    const [from, to] = [name(expected), name(predicted)];
    if (!rows.has(from)) rows.set(from, new Map());
    add(rows.get(from), to, n);
    add(sums, from, n);
    if (from === to) continue;
    add(errors, from, n);
    add(errors, to, n);
  }
  const names = [...new Set([...labels, ...rows.keys(), ...errors.keys()])].filter(
    (one) => sums.has(one) || errors.has(one),
  );
  return { names, rows, sums, errors };
}

/* The labels with the most errors, ordered so that each is followed by the one it is most confused with. */
function arranged({ names, rows, errors }, most) {
  const left = new Set(
    [...names].sort((a, b) => (errors.get(b) || 0) - (errors.get(a) || 0)).slice(0, most),
  );
  const between = (a, b) => (rows.get(a)?.get(b) || 0) + (rows.get(b)?.get(a) || 0);
  const order = [];
  while (left.size) {
    const last = order.at(-1);
    let next = left.values().next().value;
    if (last) for (const one of left) if (between(last, one) > between(last, next)) next = one;
    left.delete(next);
    order.push(next);
  }
  return order;
}

function Cell({ expected, predicted, n, sum, chosen, onCell }) {
  if (!n) return <td class="zero" />;
  const right = expected === predicted;
  const style = { "--share": `${Math.round(12 + 78 * (n / sum))}%` };
  if (right)
    return (
      <td class="right" style={style}>
        {n}
      </td>
    );
  const what = `${n} of ${expected} taken for ${predicted}`;
  return (
    <td class="error" style={style}>
      <button
        type="button"
        title={what}
        aria-label={what}
        aria-pressed={chosen}
        onClick={() => onCell({ expected, predicted })}
      >
        {n}
      </button>
    </td>
  );
}

export function Matrix({ outcome, cell, onCell }) {
  const [most, setMost] = useState(20);
  const table = useMemo(() => tabulate(outcome), [outcome]);
  const order = useMemo(() => arranged(table, most), [table, most]);
  return (
    <section class="card">
      <header class="heading">
        <h2>Confusion matrix</h2>
        {table.names.length > 20 && (
          <label class="inline">
            Labels
            <select value={most} onChange={(event) => setMost(Number(event.target.value))}>
              <option value={20}>20 with most errors</option>
              <option value={40}>40 with most errors</option>
              <option value={80}>80 with most errors</option>
            </select>
          </label>
        )}
      </header>
      <p class="soft small">
        Rows are what a text should be, columns what it was decided to be; {integer(order.length)}{" "}
        of {integer(table.names.length)} labels. Choose a cell to see its texts.
      </p>
      <div class="matrix" tabIndex={0} role="region" aria-label="Confusion matrix">
        <table>
          <thead>
            <tr>
              <td />
              {order.map((name) => (
                <th key={name} scope="col" title={name}>
                  <span>{name}</span>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {order.map((expected) => (
              <tr key={expected}>
                <th scope="row" title={expected}>
                  <span>{expected}</span>
                </th>
                {order.map((predicted) => (
                  <Cell
                    key={predicted}
                    expected={expected}
                    predicted={predicted}
                    n={table.rows.get(expected)?.get(predicted)}
                    sum={table.sums.get(expected)}
                    chosen={cell?.expected === expected && cell?.predicted === predicted}
                    onCell={onCell}
                  />
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
