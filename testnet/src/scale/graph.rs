//! Graphs of links, made from a seed: who may link to whom.
//!
//! Nodes are numbered in the order in which they join: each but the first has a neighbour with a lower number.

use std::collections::VecDeque;
use std::f64::consts::PI;
use std::str::FromStr;

use overlay::rng::Rng;

/// Average degree of the random geometric and the hyperbolic random graph.
const MEAN_DEGREE: f64 = 8.0;
/// Existing nodes that a joiner of [`Kind::Nearest`] looks at, for each link that it makes.
const SAMPLE_PER_LINK: usize = 8;
/// Generalised linear preference with the parameters measured on the Internet's autonomous systems (Bu and Towsley, "On
/// Distinguishing between Internet Power Law Topology Generators", INFOCOM 2002): links a step, share of steps that add links only, shift of
/// the preference.
const GLP: (f64, f64, f64) = (1.13, 0.4695, 0.6447);

/// A family of graphs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `ov:K`: a joiner links to K uniform existing nodes.
    Uniform(usize),
    /// `ovp:K`: to the K nearest of a sample, on a torus.
    Nearest(usize),
    /// `ba:M`: to M existing nodes by preference for degree (Barabasi and Albert 1999).
    Preferential(usize),
    /// `pl:G`: degrees by a power law of exponent G, otherwise random (Chung and Lu 2002).
    PowerLaw(f64),
    /// `hrg:G`: a hyperbolic random graph (Krioukov et al. 2010) whose degrees follow a power law of exponent G.
    Hyperbolic(f64),
    /// `rgg`: random points in a square, linked when near (Gilbert 1961).
    Geometric,
    /// `rgt`: the same on a torus, where every way has another one around it.
    Toroidal,
    /// `as`: like the Internet's autonomous systems, by generalised linear preference.
    Internet,
}

/// A text that names no family of graphs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseKindError;

impl std::fmt::Display for ParseKindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no such graph; try ov:3, ovp:3, ba:2, pl:2.5, hrg:2.5, rgg, rgt or as")
    }
}

impl std::error::Error for ParseKindError {}

impl FromStr for Kind {
    type Err = ParseKindError;

    fn from_str(text: &str) -> Result<Self, ParseKindError> {
        let (name, parameter) = text.split_once(':').map_or((text, None), |(name, rest)| (name, Some(rest)));
        let count =
            || parameter.and_then(|text| text.parse().ok()).filter(|n| (1..=64).contains(n)).ok_or(ParseKindError);
        let exponent = || {
            let exponent = parameter.unwrap_or("2.5").parse().ok();
            exponent.filter(|gamma| *gamma > 2.0 && *gamma <= 4.0).ok_or(ParseKindError)
        };
        Ok(match name {
            "ov" => Self::Uniform(count()?),
            "ovp" => Self::Nearest(count()?),
            "ba" => Self::Preferential(count()?),
            "pl" => Self::PowerLaw(exponent()?),
            "hrg" => Self::Hyperbolic(exponent()?),
            "rgg" if parameter.is_none() => Self::Geometric,
            "rgt" if parameter.is_none() => Self::Toroidal,
            "as" if parameter.is_none() => Self::Internet,
            _ => return Err(ParseKindError),
        })
    }
}

/// Neighbours of each node, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph(Vec<Vec<u32>>);

impl Graph {
    /// A connected graph of `nodes` nodes.
    pub fn new(kind: Kind, nodes: usize, rng: &mut Rng) -> Self {
        match kind {
            Kind::Uniform(k) => grow(nodes, k, |_, v, rng| below(rng, v), rng),
            Kind::Nearest(k) => nearest(nodes, k, rng),
            Kind::Preferential(m) => preferential(nodes, m, rng),
            Kind::Internet => linear_preference(nodes, rng),
            Kind::PowerLaw(gamma) => with_enough(nodes, |n| chung_lu(n, gamma, rng)),
            Kind::Hyperbolic(gamma) => with_enough(nodes, |n| hyperbolic(n, gamma, rng)),
            Kind::Geometric => with_enough(nodes, |n| geometric(n, square_distance, rng)),
            Kind::Toroidal => with_enough(nodes, |n| geometric(n, torus_distance, rng)),
        }
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whom `node` may link to.
    pub fn neighbours(&self, node: usize) -> &[u32] {
        self.0.get(node).map_or(&[], Vec::as_slice)
    }

    /// Links on the shortest way from `source` to each node that `usable` allows; `u32::MAX` where there is none.
    pub fn distances(&self, source: usize, usable: impl Fn(usize, usize) -> bool) -> Vec<u32> {
        let mut distance = vec![u32::MAX; self.len()];
        let mut queue = VecDeque::from([source]);
        distance[source] = 0;
        while let Some(node) = queue.pop_front() {
            for &next in self.neighbours(node) {
                let next = next as usize;
                if distance[next] == u32::MAX && usable(node, next) {
                    distance[next] = distance[node] + 1;
                    queue.push_back(next);
                }
            }
        }
        distance
    }

    fn link(&mut self, a: usize, b: usize) -> bool {
        let (Ok(small_a), Ok(small_b)) = (u32::try_from(a), u32::try_from(b)) else { return false };
        if a == b || self.0[a].contains(&small_b) {
            return false;
        }
        self.0[a].push(small_b);
        self.0[b].push(small_a);
        true
    }
}

fn below(rng: &mut Rng, n: usize) -> usize {
    usize::try_from(rng.below(n as u64)).unwrap_or(0)
}

/// Uniform in (0, 1).
fn unit(rng: &mut Rng) -> f64 {
    (rng.below(1 << 52) as f64 + 0.5) / (1u64 << 52) as f64
}

/// Each node in turn links to `k` existing ones that `pick` gives.
fn grow(nodes: usize, k: usize, mut pick: impl FnMut(&Graph, usize, &mut Rng) -> usize, rng: &mut Rng) -> Graph {
    let mut graph = Graph(vec![Vec::new(); nodes]);
    for node in 1..nodes {
        let mut tries = 0;
        while graph.0[node].len() < k.min(node) && tries < 64 * k {
            tries += 1;
            let other = pick(&graph, node, rng);
            graph.link(node, other);
        }
    }
    graph
}

fn preferential(nodes: usize, m: usize, rng: &mut Rng) -> Graph {
    let mut ends: Vec<usize> = vec![0];
    let mut graph = Graph(vec![Vec::new(); nodes]);
    for node in 1..nodes {
        let mut made = Vec::new();
        let mut tries = 0;
        while made.len() < m.min(node) && tries < 64 * m {
            tries += 1;
            let other = ends[below(rng, ends.len())];
            if graph.link(node, other) {
                made.push(other);
            }
        }
        for other in made {
            ends.extend([node, other]);
        }
    }
    graph
}

/// A point in the square, or on the torus, of side 1.
type Point = (f64, f64);

fn square_distance(a: Point, b: Point) -> f64 {
    (a.0 - b.0).hypot(a.1 - b.1)
}

fn torus_distance(a: Point, b: Point) -> f64 {
    let along = |x: f64| x.abs().min(1.0 - x.abs());
    along(a.0 - b.0).hypot(along(a.1 - b.1))
}

fn nearest(nodes: usize, k: usize, rng: &mut Rng) -> Graph {
    let points: Vec<Point> = (0..nodes).map(|_| (unit(rng), unit(rng))).collect();
    let mut graph = Graph(vec![Vec::new(); nodes]);
    for node in 1..nodes {
        let mut sample: Vec<usize> = (0..k * SAMPLE_PER_LINK).map(|_| below(rng, node)).collect();
        sample.sort_unstable();
        sample.dedup();
        sample.sort_by(|a, b| {
            torus_distance(points[*a], points[node]).total_cmp(&torus_distance(points[*b], points[node]))
        });
        for other in sample.into_iter().take(k) {
            graph.link(node, other);
        }
    }
    graph
}

fn linear_preference(nodes: usize, rng: &mut Rng) -> Graph {
    let (links, only_links, shift) = GLP;
    let mut graph = Graph(vec![Vec::new(); nodes]);
    // A node of degree d is twice on this list for each link; it is then refused with probability shift / d.
    let mut ends: Vec<usize> = Vec::new();
    let start = 4.min(nodes);
    for node in 1..start {
        graph.link(node - 1, node);
        ends.extend([node - 1, node]);
    }
    let mut node = start;
    while node < nodes {
        let pick = |graph: &Graph, ends: &[usize], rng: &mut Rng| loop {
            let found = ends[below(rng, ends.len())];
            if unit(rng) >= shift / graph.0[found].len() as f64 {
                return found;
            }
        };
        let many = 1 + usize::from(unit(rng) < links - 1.0);
        let fresh = unit(rng) >= only_links;
        for _ in 0..many {
            let other = pick(&graph, &ends, rng);
            let from = if fresh { node } else { pick(&graph, &ends, rng) };
            if graph.link(from, other) {
                ends.extend([from, other]);
            }
        }
        node += usize::from(fresh);
    }
    graph
}

/// The giant component of what `make` makes, with at least `nodes` nodes, of which the first that a search finds are kept.
fn with_enough(nodes: usize, mut make: impl FnMut(usize) -> Graph) -> Graph {
    let mut size = nodes + nodes / 8;
    for _ in 0..16 {
        let component = giant(&make(size));
        if component.len() >= nodes {
            return truncated(&component, nodes);
        }
        size += size / 4;
    }
    Graph(Vec::new())
}

/// The largest component, in the order of a breadth first search.
fn giant(graph: &Graph) -> Graph {
    let mut seen = vec![false; graph.len()];
    let mut best: Vec<usize> = Vec::new();
    for start in 0..graph.len() {
        if seen[start] {
            continue;
        }
        let mut order = vec![start];
        seen[start] = true;
        let mut at = 0;
        while at < order.len() {
            for &next in graph.neighbours(order[at]) {
                if !std::mem::replace(&mut seen[next as usize], true) {
                    order.push(next as usize);
                }
            }
            at += 1;
        }
        if order.len() > best.len() {
            best = order;
        }
    }
    renumbered(graph, &best)
}

fn renumbered(graph: &Graph, order: &[usize]) -> Graph {
    let mut number = vec![u32::MAX; graph.len()];
    for (new, old) in (0u32..).zip(order) {
        number[*old] = new;
    }
    let neighbours = |old: &usize| {
        let mut list: Vec<u32> = graph.neighbours(*old).iter().map(|next| number[*next as usize]).collect();
        list.retain(|next| *next != u32::MAX);
        list.sort_unstable();
        list
    };
    Graph(order.iter().map(neighbours).collect())
}

fn truncated(graph: &Graph, nodes: usize) -> Graph {
    let order: Vec<usize> = (0..nodes).collect();
    renumbered(graph, &order)
}

fn geometric(nodes: usize, distance: fn(Point, Point) -> f64, rng: &mut Rng) -> Graph {
    let points: Vec<Point> = (0..nodes).map(|_| (unit(rng), unit(rng))).collect();
    let radius = (MEAN_DEGREE / (PI * nodes as f64)).sqrt();
    // Cells as wide as the radius: a neighbour is in the same cell or beside it.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a unit square")]
    let cells = ((1.0 / radius) as usize).max(3);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a unit square")]
    let cell = |x: f64| ((x * cells as f64) as usize).min(cells - 1);
    let mut grid: Vec<Vec<usize>> = vec![Vec::new(); cells * cells];
    for (node, point) in points.iter().enumerate() {
        grid[cell(point.0) * cells + cell(point.1)].push(node);
    }
    let mut graph = Graph(vec![Vec::new(); nodes]);
    for (node, point) in points.iter().enumerate() {
        for (dx, dy) in (0..9).map(|n| (n / 3 + cells - 1, n % 3 + cells - 1)) {
            let (x, y) = ((cell(point.0) + dx) % cells, (cell(point.1) + dy) % cells);
            for &other in &grid[x * cells + y] {
                if other < node && distance(points[other], *point) <= radius {
                    graph.link(node, other);
                }
            }
        }
    }
    graph
}

fn chung_lu(nodes: usize, gamma: f64, rng: &mut Rng) -> Graph {
    // Weights w_i = c (i + i0)^(-1/(gamma - 1)); a pair is linked with probability w_i w_j / sum, drawn by its ends.
    let weights: Vec<f64> = (0..nodes).map(|i| (i as f64 + 10.0).powf(-1.0 / (gamma - 1.0))).collect();
    let mut sums = Vec::with_capacity(nodes);
    let mut sum = 0.0;
    for weight in &weights {
        sum += weight;
        sums.push(sum);
    }
    let mut graph = Graph(vec![Vec::new(); nodes]);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of links")]
    let links = (nodes as f64 * MEAN_DEGREE / 2.0) as usize;
    let pick = |rng: &mut Rng| {
        let at = unit(rng) * sum;
        sums.partition_point(|sum| *sum < at).min(nodes - 1)
    };
    for _ in 0..links {
        let (a, b) = (pick(rng), pick(rng));
        graph.link(a, b);
    }
    graph
}

/// The threshold model in the disk of radius R: r by density alpha sinh(alpha r), linked when the hyperbolic distance is at most R.
fn hyperbolic(nodes: usize, gamma: f64, rng: &mut Rng) -> Graph {
    let alpha = (gamma - 1.0) / 2.0;
    let xi = alpha / (alpha - 0.5);
    let radius = 2.0 * (nodes as f64 * 2.0 * xi * xi / (PI * MEAN_DEGREE)).ln();
    let mut points: Vec<(f64, f64)> = (0..nodes)
        .map(|_| {
            let u = unit(rng);
            let r = (1.0 + u * ((alpha * radius).cosh() - 1.0)).acosh() / alpha;
            (r, 2.0 * PI * unit(rng))
        })
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Bands of radius, each sorted by angle: in a band that begins at `low`, only nodes within an angle can be near enough.
    const BANDS: usize = 32;
    let mut bands: Vec<(f64, Vec<(f64, usize)>)> = Vec::new();
    for chunk in 0..BANDS {
        let (from, to) = (nodes * chunk / BANDS, nodes * (chunk + 1) / BANDS);
        let mut band: Vec<(f64, usize)> = (from..to).map(|node| (points[node].1, node)).collect();
        band.sort_by(|a, b| a.0.total_cmp(&b.0));
        if from < to {
            bands.push((points[from].0, band));
        }
    }
    let mut graph = Graph(vec![Vec::new(); nodes]);
    for node in 0..nodes {
        let (r, angle) = points[node];
        for (low, band) in &bands {
            let window = largest_angle(r, *low, radius);
            let mut near = |from: f64, to: f64| {
                let start = band.partition_point(|(theta, _)| *theta < from);
                for (theta, other) in band.iter().skip(start).take_while(|(theta, _)| *theta <= to) {
                    if *other < node && hyperbolic_distance((r, angle), (points[*other].0, *theta)) <= radius {
                        graph.link(node, *other);
                    }
                }
            };
            near(angle - window, angle + window);
            near(angle - window + 2.0 * PI, 2.0 * PI);
            near(0.0, angle + window - 2.0 * PI);
        }
    }
    graph
}

fn hyperbolic_distance(a: (f64, f64), b: (f64, f64)) -> f64 {
    let cosh = a.0.cosh() * b.0.cosh() - a.0.sinh() * b.0.sinh() * (a.1 - b.1).cos();
    cosh.max(1.0).acosh()
}

/// The angle within which a point at `r` and one at `low` or further out can be at most `radius` apart.
fn largest_angle(r: f64, low: f64, radius: f64) -> f64 {
    if r + low <= radius {
        return PI;
    }
    let cos = (r.cosh() * low.cosh() - radius.cosh()) / (r.sinh() * low.sinh());
    cos.clamp(-1.0, 1.0).acos()
}

#[cfg(test)]
mod tests;
