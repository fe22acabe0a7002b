//! Filtering, sorting and indenting rows.

use super::table::{Row, RowKey, Sort};
use std::collections::{HashMap, HashSet};

/// A filter as typed: words that must all occur somewhere in a row; a word after `!` must not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// As typed.
    pub text: String,
}

impl Filter {
    /// Whether a row passes.
    pub fn accepts(&self, row: &Row) -> bool {
        if self.text.trim().is_empty() {
            return true;
        }
        let mut haystack: String = String::new();
        for cell in &row.cells {
            haystack.push_str(&cell.text.to_lowercase());
            haystack.push('\n');
        }
        if let Some(frame) = &row.place {
            haystack.push_str(&frame.file.to_lowercase());
            haystack.push_str(&frame.function.to_lowercase());
        }
        self.text.to_lowercase().split_whitespace().all(|word| match word.strip_prefix('!') {
            Some("") => true,
            Some(word) => !haystack.contains(word),
            None => haystack.contains(word),
        })
    }
}

/// A row in its place, with the lines of the tree before it.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The row.
    pub row: Row,
    /// Tree lines; empty outside trees.
    pub prefix: String,
    /// Stands only because a row below it passed the filter.
    pub is_context: bool,
}

/// Rows in the order to show.
pub fn arrange(mut rows: Vec<Row>, sort: Sort, filter: &Filter, is_tree: bool) -> Vec<Placed> {
    let order = |a: &Row, b: &Row| {
        let (Some(left), Some(right)) = (a.cells.get(sort.column), b.cells.get(sort.column)) else {
            return std::cmp::Ordering::Equal;
        };
        let order = left.order(right);
        let order = if sort.is_descending { order.reverse() } else { order };
        // Equal rows must not change places from look to look.
        order.then_with(|| a.key.cmp(&b.key))
    };
    rows.sort_by(order);
    if is_tree {
        return as_tree(rows, filter);
    }
    rows.into_iter()
        .filter(|row| filter.accepts(row))
        .map(|row| Placed { row, prefix: String::new(), is_context: false })
        .collect()
}

struct Tree {
    rows: Vec<Option<Row>>,
    children: HashMap<usize, Vec<usize>>,
    passes: Vec<bool>,
    kept: Vec<bool>,
    placed: Vec<Placed>,
}

fn as_tree(rows: Vec<Row>, filter: &Filter) -> Vec<Placed> {
    let index: HashMap<&RowKey, usize> = rows.iter().enumerate().map(|(at, row)| (&row.key, at)).collect();
    let parents: Vec<Option<usize>> = rows
        .iter()
        .enumerate()
        .map(|(at, row)| {
            row.parent.as_ref().and_then(|key| index.get(key)).copied().filter(|&parent| parent != at)
        })
        .collect();
    let passes: Vec<bool> = rows.iter().map(|row| filter.accepts(row)).collect();
    let mut kept = passes.clone();
    for at in (0..rows.len()).filter(|&at| passes[at]) {
        let mut next = parents[at];
        while let Some(parent) = next.filter(|&parent| !kept[parent]) {
            kept[parent] = true;
            next = parents[parent];
        }
    }
    let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
    for (at, parent) in parents.iter().enumerate() {
        if let Some(parent) = parent {
            children.entry(*parent).or_default().push(at);
        }
    }
    let roots: Vec<usize> = (0..rows.len()).filter(|&at| parents[at].is_none()).collect();
    let count = rows.len();
    let rows = rows.into_iter().map(Some).collect();
    let mut tree = Tree { rows, children, passes, kept, placed: Vec::with_capacity(count) };
    let mut seen = HashSet::new();
    for at in roots {
        tree.place(at, &mut seen);
    }
    // Rows that hang below each other in a circle have no root: each circle is entered at its first row.
    for at in 0..count {
        if !seen.contains(&at) {
            tree.place(at, &mut seen);
        }
    }
    tree.placed
}

impl Tree {
    /// Places a row and all below it. Await chains can be thousands deep, so the stack is explicit.
    fn place(&mut self, root: usize, seen: &mut HashSet<usize>) {
        // (row, lines before it, whether it is the last of its siblings, depth)
        let mut pending = vec![(root, String::new(), true, 0_usize)];
        while let Some((at, lines, is_last, depth)) = pending.pop() {
            if !self.kept[at] || !seen.insert(at) {
                seen.insert(at);
                continue;
            }
            let (own, below) = match (depth, is_last) {
                (0, _) => (String::new(), String::new()),
                (_, true) => (format!("{lines}└─ "), format!("{lines}   ")),
                (_, false) => (format!("{lines}├─ "), format!("{lines}│  ")),
            };
            if let Some(row) = self.rows[at].take() {
                self.placed.push(Placed { row, prefix: own, is_context: !self.passes[at] });
            }
            let mut below_it = self.children.get(&at).cloned().unwrap_or_default();
            below_it.retain(|&child| self.kept[child] && !seen.contains(&child));
            // Far down, indentation would leave no room for text.
            let below = if depth < LEVELS_INDENTED { below } else { lines };
            for (place, &child) in below_it.iter().enumerate().rev() {
                pending.push((child, below.clone(), place + 1 == below_it.len(), depth + 1));
            }
        }
    }
}

/// Deeper levels are drawn below each other.
const LEVELS_INDENTED: usize = 12;

#[cfg(test)]
mod tests {
    use super::super::table::Cell;
    use super::*;

    fn row(pid: i32, text: &str, parent: Option<i32>) -> Row {
        let mut row = Row::new(RowKey::Process(pid), vec![Cell::text(text)]);
        row.parent = parent.map(RowKey::Process);
        row
    }

    fn shown(rows: Vec<Row>, filter: &str, is_tree: bool) -> Vec<String> {
        let sort = Sort { column: 0, is_descending: false };
        arrange(rows, sort, &Filter { text: filter.to_owned() }, is_tree)
            .iter()
            .map(|placed| format!("{}{}", placed.prefix, placed.row.cells[0].text))
            .collect()
    }

    #[test]
    fn a_filter_needs_every_word_and_refuses_the_negated_ones() {
        let rows = || vec![row(1, "recv from Redis", None), row(2, "recv from 10.0.0.1", None)];
        assert_eq!(shown(rows(), "recv", false).len(), 2);
        assert_eq!(shown(rows(), "RECV redis", false), ["recv from Redis"]);
        assert_eq!(shown(rows(), "recv !redis", false), ["recv from 10.0.0.1"]);
        assert_eq!(shown(rows(), "recv !", false).len(), 2);
    }

    #[test]
    fn children_stand_below_their_parent_and_siblings_are_sorted() {
        let rows = vec![row(3, "c", Some(1)), row(1, "a", None), row(2, "b", Some(1)), row(4, "d", Some(2))];
        assert_eq!(shown(rows, "", true), ["a", "├─ b", "│  └─ d", "└─ c"]);
    }

    #[test]
    fn the_ancestors_of_a_row_that_passes_stay() {
        let rows = vec![row(1, "root", None), row(2, "leaf", Some(1)), row(3, "other", Some(1))];
        assert_eq!(shown(rows, "leaf", true), ["root", "└─ leaf"]);
    }

    #[test]
    fn rows_in_a_circle_are_shown_once_each() {
        let rows = vec![row(1, "a", Some(2)), row(2, "b", Some(1)), row(3, "c", Some(3))];
        assert_eq!(shown(rows, "", true).len(), 3);
    }

    #[test]
    fn a_chain_of_thousands_needs_no_recursion() {
        let rows = (0..20_000).map(|n| row(n, "x", (n > 0).then(|| n - 1))).collect();
        assert_eq!(shown(rows, "", true).len(), 20_000);
    }
}
