//! Compares a response with a printed sample: the same fields, types and values, except those that vary.

use serde_json::Value;

/// A printed sample, and how a response may differ from it.
pub struct Sample {
    body: Value,
    varying: Vec<String>,
    more: Vec<String>,
}

impl Sample {
    /// A sample that the response must equal.
    pub fn of(body: Value) -> Self {
        Self {
            body,
            varying: Vec::new(),
            more: Vec::new(),
        }
    }

    /// Fields whose values are generated: compared by type, and by format where the sample's is a date.
    pub fn varying(mut self, fields: &[&str]) -> Self {
        self.varying = fields.iter().map(|&field| field.to_owned()).collect();
        self
    }

    /// Fields that other sources show, and that the response may have in addition.
    pub fn and(mut self, fields: &[&str]) -> Self {
        self.more = fields.iter().map(|&field| field.to_owned()).collect();
        self
    }
}

/// Panics with all differences between a response and a sample.
#[track_caller]
pub fn assert_like(answer: &Value, sample: &Sample) {
    let mut differences = Vec::new();
    compare(answer, &sample.body, sample, "", false, &mut differences);
    assert!(
        differences.is_empty(),
        "{}\nanswer: {answer:#}\nsample: {:#}",
        differences.join("\n"),
        sample.body
    );
}

fn compare(
    answer: &Value,
    printed: &Value,
    sample: &Sample,
    at: &str,
    varies: bool,
    out: &mut Vec<String>,
) {
    match (answer, printed) {
        (Value::Object(answer), Value::Object(printed)) => {
            for (field, printed) in printed {
                match answer.get(field) {
                    Some(answer) => {
                        let varies = varies || sample.varying.contains(field);
                        compare(
                            answer,
                            printed,
                            sample,
                            &format!("{at}.{field}"),
                            varies,
                            out,
                        );
                    }
                    None => out.push(format!("{at}.{field} is missing")),
                }
            }
            for field in answer.keys() {
                if !printed.contains_key(field) && !sample.more.contains(field) {
                    out.push(format!("{at}.{field} is not in the sample"));
                }
            }
        }
        (Value::Array(answer), Value::Array(printed)) => {
            if answer.len() != printed.len() {
                out.push(format!(
                    "{at} has {} elements, the sample {}",
                    answer.len(),
                    printed.len()
                ));
            }
            for (index, (answer, printed)) in answer.iter().zip(printed).enumerate() {
                compare(
                    answer,
                    printed,
                    sample,
                    &format!("{at}[{index}]"),
                    varies,
                    out,
                );
            }
        }
        (Value::Number(answer), Value::Number(printed)) => {
            if !varies && answer.as_f64() != printed.as_f64() {
                out.push(format!("{at} is {answer}, the sample has {printed}"));
            }
        }
        (Value::String(answer), Value::String(printed)) => {
            if !varies && answer != printed {
                out.push(format!("{at} is {answer:?}, the sample has {printed:?}"));
            } else if pattern(printed).starts_with("0000-00-00T")
                && pattern(answer) != pattern(printed)
            {
                out.push(format!("{at} is {answer:?}, not a date like {printed:?}"));
            } else if answer.is_empty() && !printed.is_empty() {
                out.push(format!("{at} is empty"));
            }
        }
        (answer, printed) => {
            let same = std::mem::discriminant(answer) == std::mem::discriminant(printed);
            if !same || (!varies && answer != printed) {
                out.push(format!("{at} is {answer}, the sample has {printed}"));
            }
        }
    }
}

/// A text with every digit as `0` and both signs of an offset as `+`.
fn pattern(text: &str) -> String {
    let end = text.len().saturating_sub(6);
    text.char_indices()
        .map(|(at, character)| match character {
            '0'..='9' => '0',
            '-' if at >= end => '+',
            other => other,
        })
        .collect()
}
