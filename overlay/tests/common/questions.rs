//! What tests ask a network, and what has to hold in it.

use super::*;

impl Net {
    pub fn attached(&self, n: usize) -> bool {
        self.nodes[n].overlay.as_ref().is_some_and(|overlay| overlay.place().is_some())
    }

    pub fn place(&self, n: usize) -> Place {
        self.node(n).place().unwrap().clone()
    }

    pub fn text(&self, n: usize) -> String {
        self.text_in(FIRST_TREE, n)
    }

    pub fn text_in(&self, tree: TreeId, n: usize) -> String {
        let place = self.node(n).place();
        place.and_then(|p| p.addresses.in_tree(tree)).map_or_else(|| "-".to_owned(), ToString::to_string)
    }

    /// All living nodes have an address in each tree in use, no two the same.
    pub fn assert_whole(&self) {
        let trees = self.alive().iter().map(|n| self.node(*n).place().map_or(0, |place| place.addresses.len())).max();
        for tree in TreeId::ALL.into_iter().take(trees.unwrap_or(0)) {
            let mut seen = BTreeSet::new();
            for n in self.alive() {
                let text = self.text_in(tree, n);
                assert_ne!(text, "-", "node {n} is detached in {tree:?}: {}", self.picture());
                assert!(seen.insert(text.clone()), "two nodes at {text} of {tree:?}: {}", self.picture());
            }
            // Who minds the root for the founder keeps its own place.
            let minds = |n: &usize| tree == FIRST_TREE && self.node(*n).root_of(tree) == Some(self.id(*n));
            let rooted = seen.contains("/") || self.alive().iter().any(minds);
            assert!(rooted, "{tree:?} has no root: {}", self.picture());
        }
    }

    pub fn picture(&self) -> String {
        self.alive()
            .iter()
            .map(|n| {
                let node = self.node(*n);
                let near: Vec<_> = node.neighbours().iter().map(|x| self.index(x.id)).collect();
                let trees: Vec<_> = TreeId::ALL
                    .iter()
                    .map(|tree| {
                        let parent = node.parent_in(*tree).map(|p| self.index(p));
                        let root = node.root_of(*tree).map(|p| self.index(p));
                        format!("{} below {parent:?} root {root:?}", self.text_in(*tree, *n))
                    })
                    .collect();
                format!("\n{n}: {trees:?} links {near:?}")
            })
            .collect()
    }

    /// Sends from `a` to `b`'s present place; the delivery, if it arrives.
    pub fn deliver(&mut self, a: usize, b: usize) -> Option<Delivery> {
        let (to, place) = (self.id(b), self.place(b));
        let before = self.nodes[b].events.len();
        let payload = format!("{a} to {b}").into_bytes();
        let outgoing = Outgoing { to, place, flow: 1, payload: payload.clone() };
        self.with(a, |overlay, now| overlay.send(outgoing, now)).ok()?;
        let found = |net: &Self| {
            net.nodes[b].events[before..].iter().find_map(|(_, event)| match event {
                Event::Received(delivery) if delivery.payload == payload => Some(delivery.clone()),
                _ => None,
            })
        };
        self.run_until(Duration::from_secs(2), |net| found(net).is_some());
        found(self)
    }

    pub fn assert_all_pairs_route(&mut self) {
        for a in self.alive() {
            for b in self.alive() {
                if a != b {
                    assert!(self.deliver(a, b).is_some(), "{a} to {b}: {}", self.picture());
                }
            }
        }
    }

    /// Looks `query` up from `n`.
    pub fn lookup(&mut self, n: usize, query: Query) -> LookupResult {
        // An earlier run of the node may have used the same number.
        let before = self.nodes[n].events.len();
        let id = self.with(n, |overlay, now| overlay.lookup(query, true, now));
        let found = |net: &Self| {
            net.nodes[n].events[before..].iter().find_map(|(_, event)| match event {
                Event::LookupFinished { id: done, result, .. } if *done == id => Some(result.clone()),
                _ => None,
            })
        };
        self.run_until(Duration::from_secs(6), |net| found(net).is_some());
        found(self).expect("a look-up ends")
    }

    /// What happened to `n` since it was added.
    pub fn events(&self, n: usize) -> impl Iterator<Item = &Event> {
        self.nodes[n].events.iter().map(|(_, event)| event)
    }

    /// Every living node finds `of` at its present place.
    pub fn assert_resolvable(&mut self, of: usize) {
        let place = self.place(of);
        for n in self.alive() {
            match self.lookup(n, Query::Node(self.id(of))) {
                LookupResult::Found(record) => {
                    assert_eq!(record.node().unwrap().place, place, "node {n} finds an old record of {of}");
                }
                other => panic!("node {n} looks {of} up: {other:?} {}", self.picture()),
            }
        }
    }

    pub fn heard(&self, n: usize, wanted: impl Fn(&Event) -> bool) -> bool {
        self.told(n, |event| wanted(event).then_some(())).is_some()
    }

    /// What the first event that says something says.
    pub fn told<R>(&self, n: usize, says: impl Fn(&Event) -> Option<R>) -> Option<R> {
        self.nodes[n].events.iter().find_map(|(_, event)| says(event))
    }
}
