use super::*;

#[test]
fn nodes_have_converged_when_they_have_an_address_in_each_tree_that_was_asked_for() {
    let mut rng = Rng::from_seed([9; 32]);
    let graph = Graph::new(Options::default().kind().unwrap(), 20, &mut rng);
    let config = Config { trees: 2, ..Config::default() };
    let mut world = World::new(graph, config, rng.fork(), true, 1, Faults::default().latency());
    join_all(&mut world, &ProgressBar::hidden());
    assert!(converge(&mut world, 2).is_some());
    assert_eq!(converge(&mut world, 3), None, "nobody has an address in a third tree");
}
