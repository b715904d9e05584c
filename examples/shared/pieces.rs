//! What the examples' pictures are made of (colours, rectangles and words), and where they go.

use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;

pub(crate) const INK: &str = "#1c2530";
pub(crate) const FAINT: &str = "#5b6673";
pub(crate) const GRID: &str = "#c9d0d8";
pub(crate) const SUCCEEDED: &str = "#009e73";
pub(crate) const FAILED: &str = "#d55e00";
pub(crate) const HALF_OPEN: &str = "#e6b400";

/// An empty picture with a title; `</svg>` is the caller's to write.
pub(crate) fn page((width, height): (f64, f64), title: &str) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" font-family=\"system-ui, sans-serif\" \
         font-size=\"12\" role=\"img\">\n\
         <title>{title}</title>\n"
    );
    // Its own ground: the ink stays readable on a dark page.
    rect(&mut svg, (0.0, 0.0), (width, height), "#ffffff", "rx=\"8\"");
    text(&mut svg, (24.0, 34.0), "font-size=\"20\" font-weight=\"600\"", INK, title);
    svg
}

pub(crate) fn rect(svg: &mut String, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str, more: &str) {
    let _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
         fill=\"{fill}\" {more}/>"
    );
}

pub(crate) fn text(svg: &mut String, (x, y): (f64, f64), more: &str, fill: &str, words: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{fill}\" {more}>{words}</text>");
}

/// Writes a picture beside cargo's other outputs, from whatever folder `cargo run` was called, and says where.
pub(crate) fn save(name: &str, svg: &str) -> Result<PathBuf, Box<dyn Error>> {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(PathBuf::new, PathBuf::from);
    let folder = root.join("target");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(name);
    std::fs::write(&path, svg).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(path)
}
