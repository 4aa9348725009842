//! `${NAME}` and `${NAME:default}` in string values; `$$` is a dollar sign.
//!
//! The default reaches to the first `}` and may hold colons. A variable that is set but empty counts as set. What comes
//! from the environment is not interpolated again.

use toml::{Table, Value};

use crate::problems::{Problems, join};

/// Looks a variable up.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces variables in all strings of a table, also in nested ones. Keys stay as they are.
pub(crate) fn interpolate(table: &mut Table, path: &str, env: Env<'_>, problems: &mut Problems) {
    for (key, value) in table.iter_mut() {
        interpolate_value(value, &join(path, key), env, problems);
    }
}

fn interpolate_value(value: &mut Value, key: &str, env: Env<'_>, problems: &mut Problems) {
    match value {
        Value::String(text) => match replace(text, env) {
            Ok(replaced) => *text = replaced,
            Err(message) => problems.spoil(key, message),
        },
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                interpolate_value(item, &format!("{key}[{index}]"), env, problems);
            }
        }
        Value::Table(table) => interpolate(table, key, env, problems),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

fn replace(text: &str, env: Env<'_>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let Some(end) = after.find('}') else {
                return Err(format!("\"{}\" has no closing brace", &rest[at..]));
            };
            out.push_str(&variable(&after[..end], env)?);
            rest = &after[end + 1..];
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn variable(inside: &str, env: Env<'_>) -> Result<String, String> {
    let (name, default) = match inside.split_once(':') {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let is_name = |name: &str| {
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && name.chars().next().is_some_and(|c| !c.is_ascii_digit())
    };
    if !is_name(name) {
        return Err(format!("\"{name}\" in \"${{{inside}}}\" is not the name of a variable"));
    }
    env(name)
        .or_else(|| default.map(str::to_owned))
        .ok_or_else(|| format!("variable {name} is not set and \"${{{inside}}}\" has no default"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<&str, &str>) {
        let env = |name: &str| match name {
            "HOST" => Some("kafka".to_owned()),
            "EMPTY" => Some(String::new()),
            "RAW" => Some("${HOST}".to_owned()),
            _ => None,
        };
        let expect = expect.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(replace(text, &env), expect, "{text}");
    }

    #[test]
    fn variables_are_replaced() {
        check("plain", Ok("plain"));
        check("${HOST}:9092", Ok("kafka:9092"));
        check("a ${HOST} b ${HOST}", Ok("a kafka b kafka"));
        check("${NONE:kafka:9092}/x", Ok("kafka:9092/x"));
        check("${NONE:}", Ok(""));
        check("${EMPTY:default}", Ok(""));
        check("${RAW}", Ok("${HOST}"));
    }

    #[test]
    fn dollars_are_kept_where_they_name_nothing() {
        check("$$", Ok("$"));
        check("$${HOST}", Ok("${HOST}"));
        check("5$ each $", Ok("5$ each $"));
    }

    #[test]
    fn what_cannot_be_replaced_is_named() {
        check("${NONE}", Err("variable NONE is not set and \"${NONE}\" has no default"));
        check("x ${HOST", Err("\"${HOST\" has no closing brace"));
        check("${}", Err("\"\" in \"${}\" is not the name of a variable"));
        check("${A B:c}", Err("\"A B\" in \"${A B:c}\" is not the name of a variable"));
    }
}
