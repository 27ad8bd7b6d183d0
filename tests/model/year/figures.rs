//! The figures of the simulated year for `docs/performance.md`: a table, and a drawing in SVG.

use std::fmt::Write as _;

use super::{Figure, Month, as_f64};

const MIB: f64 = 1_048_576.0;
/// The size of the drawing, and the margins around its field.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const MARGIN: f64 = 48.0;

/// The lines of the drawing: name, color and figure.
const LINES: [(&str, &str, Figure); 3] = [
    ("journal", "#0b6e99", |month| month.journal),
    ("snapshots", "#b8860b", |month| month.snapshots),
    ("state (sled)", "#7a3e9d", |month| month.sled),
];

/// The figures as a table in Markdown.
pub(crate) fn table(months: &[Month]) -> String {
    let mut text =
        "| month | events taken | events kept | journal MiB | snapshots MiB | state MiB |\n\
        |---:|---:|---:|---:|---:|---:|\n"
            .to_owned();
    for (number, month) in (1..).zip(months) {
        let Month { taken, kept, .. } = month;
        let [journal, snapshots, sled] =
            [month.journal, month.snapshots, month.sled].map(|bytes| as_f64(bytes) / MIB);
        let figures = format!("{journal:.1} | {snapshots:.1} | {sled:.1}");
        writeln!(text, "| {number} | {taken} | {kept} | {figures} |").unwrap();
    }
    text
}

/// The bytes on disk at each month as lines over the months.
pub(crate) fn drawing(months: &[Month]) -> String {
    let all = months.iter().flat_map(|month| LINES.map(|(_, _, figure)| figure(month)));
    let top = (as_f64(all.max().unwrap_or(1)) / MIB * 1.1).max(1.0);
    let step = (WIDTH - 2.0 * MARGIN) / as_f64(months.len().saturating_sub(1).max(1) as u64);
    let place = |number: usize, bytes: u64| {
        let x = MARGIN + step * as_f64(number as u64);
        (x, HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * (as_f64(bytes) / MIB) / top)
    };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>Bytes on disk in a simulated year</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n"
    );
    axes(&mut text, (top, months.len()), &place);
    for (line, (name, color, figure)) in LINES.into_iter().enumerate() {
        let points = months.iter().enumerate().map(|(at, month)| place(at, figure(month)));
        let points: Vec<_> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let points = points.join(" ");
        let style = format!("fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"");
        writeln!(text, "<polyline {style} points=\"{points}\"/>").unwrap();
        let x = MARGIN + 140.0 * as_f64(line as u64);
        writeln!(text, "<text x=\"{x}\" y=\"20\" fill=\"{color}\">{name}</text>").unwrap();
    }
    text + "</svg>\n"
}

/// Draws the axes: MiB upwards, months to the right.
fn axes(text: &mut String, (top, months): (f64, usize), place: &dyn Fn(usize, u64) -> (f64, f64)) {
    let (right, bottom) = (WIDTH - MARGIN, HEIGHT - MARGIN);
    let path = format!("M{MARGIN} {MARGIN}V{bottom}H{right}");
    writeln!(text, "<path d=\"{path}\" fill=\"none\" stroke=\"#888\"/>").unwrap();
    for quarter in 1..=4 {
        let (mib, y) =
            (top * f64::from(quarter) / 4.0, bottom - (bottom - MARGIN) * f64::from(quarter) / 4.0);
        let end = "text-anchor=\"end\" fill=\"#555\"";
        writeln!(text, "<text x=\"{}\" y=\"{y:.0}\" {end}>{mib:.0}</text>", MARGIN - 4.0).unwrap();
    }
    writeln!(text, "<text x=\"4\" y=\"{}\" fill=\"#555\">MiB</text>", MARGIN - 12.0).unwrap();
    for number in 0..months {
        let (x, y) = (place(number, 0).0, bottom + 16.0);
        let middle = "text-anchor=\"middle\" fill=\"#555\"";
        writeln!(text, "<text x=\"{x:.0}\" y=\"{y}\" {middle}>{}</text>", number + 1).unwrap();
    }
    let name = format!("x=\"{right}\" y=\"{}\" text-anchor=\"end\"", HEIGHT - 12.0);
    writeln!(text, "<text {name} fill=\"#555\">month</text>").unwrap();
}
