"""Tables that are sorted by a click on the title of a column."""

# Numbers are compared as such, and everything else as text. A second click
# reverses the order.
SCRIPT = """
for (const table of document.querySelectorAll('table')) {
  const body = table.tBodies[0], head = table.tHead;
  if (!body || !head || body.rows.length < 3) continue;
  [...head.rows[0].cells].forEach((cell, column) => {
    cell.dataset.sorts = '';
    cell.title = 'sort by this column';
    cell.addEventListener('click', () => {
      const up = cell.dataset.sorts !== 'up';
      const text = row => row.cells[column].innerText.trim();
      const value = row => parseFloat(text(row).replace('−', '-'));
      const rows = [...body.rows].sort((a, b) => {
        const x = value(a), y = value(b);
        const order = isNaN(x) || isNaN(y)
          ? isNaN(x) - isNaN(y) || text(a).localeCompare(text(b)) : x - y;
        return up ? order : -order;
      });
      for (const other of head.rows[0].cells) other.dataset.sorts = '';
      cell.dataset.sorts = up ? 'up' : 'down';
      body.append(...rows);
    });
  });
}
"""
