//! A configured plan → its stages, each as a plan of its own.

use freshet_schemas::{Filter, Fusion, Node, NodeQuery};

/// A stage of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// What it does: the field it searches, the fusion, or what reranks.
    pub name: String,
    /// Stages above it.
    pub depth: usize,
    /// Stages it takes from: places among the stages of the plan.
    pub inputs: Vec<usize>,
    /// Number of its sub-plan.
    pub plan: usize,
}

/// Sub-plans to be run, no two of them equal: what several plans share is run once.
#[derive(Debug, Default)]
pub struct SubPlans(Vec<Node>);

impl SubPlans {
    /// The stages of a plan in the order in which they run, the whole plan last; of equal ones the first. The whole plan
    /// gives `limit` hits, every stage as many as it gives to the next.
    pub fn stages(&mut self, plan: &Node, limit: usize) -> Vec<Stage> {
        let mut stages = Vec::new();
        self.add(&Node { limit, ..plan.clone() }, None, 0, &mut stages);
        stages
    }

    fn add(&mut self, node: &Node, above: Option<&Filter>, depth: usize, stages: &mut Vec<Stage>) -> usize {
        // A filter holds for all stages below it: alone, they must have it themselves.
        let filter = Filter::both(above, node.filter.as_ref());
        let below = node.prefetch.iter().map(|child| self.add(child, filter.as_ref(), depth + 1, stages));
        let inputs: Vec<usize> = below.collect();
        let plan = self.number(Node { filter, ..node.clone() });
        let known = stages.iter().position(|stage| stage.plan == plan);
        known.unwrap_or_else(|| {
            stages.push(Stage { name: name(node), depth, inputs, plan });
            stages.len() - 1
        })
    }

    fn number(&mut self, node: Node) -> usize {
        let known = self.0.iter().position(|known| *known == node);
        known.unwrap_or_else(|| {
            self.0.push(node);
            self.0.len() - 1
        })
    }

    /// The sub-plans, by number.
    pub fn nodes(&self) -> &[Node] {
        &self.0
    }
}

/// What a stage does, in a few words.
fn name(node: &Node) -> String {
    match (&node.query, node.using.as_deref().unwrap_or_default()) {
        (Some(NodeQuery::Fusion(Fusion::Dbsf)), _) => "dbsf".to_owned(),
        (Some(NodeQuery::Fusion(Fusion::Rrf { k, weights })), _) => {
            let weights: Vec<String> = weights.iter().map(f64::to_string).collect();
            match weights.is_empty() {
                true => format!("rrf, k = {k}"),
                false => format!("rrf, k = {k}, weights {}", weights.join(", ")),
            }
        }
        (Some(NodeQuery::List(_)), _) => "list".to_owned(),
        (Some(NodeQuery::OrderBy(order)), _) => format!("list by {}", order.key),
        (Some(NodeQuery::Formula(_)), _) => "formula".to_owned(),
        (Some(NodeQuery::Mmr(mmr)), using) => format!("{using}, diversity {}", mmr.diversity),
        (_, using) if node.prefetch.is_empty() => using.to_owned(),
        (_, using) => format!("rerank by {using}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use freshet_schemas::{Condition, QueryLimits};

    fn plan(value: serde_json::Value) -> Node {
        let limits = QueryLimits { limit_max: 1000, depth_max: 4, nodes_max: 20, text_bytes_max: 100 };
        Node::parse_plan(&value, &limits, "plan").unwrap_or_else(|fault| panic!("{fault}"))
    }

    #[test]
    fn stages_come_in_the_order_in_which_they_run_and_equal_ones_once() {
        let legs = serde_json::json!([{"using": "dense", "limit": 20}, {"using": "bm25", "limit": 20}]);
        let mut plans = SubPlans::default();
        let default = plans.stages(
            &plan(serde_json::json!({
                "prefetch": [legs[0], legs[1], {"using": "colbert", "limit": 30, "prefetch": legs}],
                "query": {"fusion": "dbsf"},
            })),
            100,
        );
        let names: Vec<_> = default.iter().map(|stage| (stage.name.as_str(), stage.depth)).collect();
        assert_eq!(names, [("dense", 1), ("bm25", 1), ("rerank by colbert", 1), ("dbsf", 0)]);
        assert_eq!(default[2].inputs, [0, 1]);
        assert_eq!(default[3].inputs, [0, 1, 2]);
        let limits: Vec<usize> = plans.nodes().iter().map(|node| node.limit).collect();
        assert_eq!(limits, [20, 20, 30, 100]);
        // Another plan with the same legs runs them no second time.
        let fusion = serde_json::json!({"prefetch": legs, "query": {"rrf": {"k": 60, "weights": [1, 3]}}});
        let fused = plans.stages(&plan(fusion), 100);
        assert_eq!(fused.iter().map(|stage| stage.plan).collect::<Vec<_>>(), [0, 1, 4]);
        assert_eq!(fused[2].name, "rrf, k = 60, weights 1, 3");
    }

    #[test]
    fn a_stage_alone_keeps_the_filters_above_it() {
        let mut plans = SubPlans::default();
        let filter = serde_json::json!({"must": {"has_id": ["a"]}});
        let root = serde_json::json!({
            "prefetch": [{"using": "dense"}], "using": "colbert", "filter": filter,
        });
        plans.stages(&plan(root), 10);
        let has_a = Filter { must: vec![Condition::HasId(vec!["a".into()])], ..Filter::default() };
        assert!(plans.nodes().iter().all(|node| node.filter.as_ref() == Some(&has_a)));
    }
}
