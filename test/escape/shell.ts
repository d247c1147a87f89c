/**
 * Attempts on the virtual shell's own programs, which run in a thread of the claw's process.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Sandbox from "effect-claw/services/Sandbox"
import { execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdirSync, rmSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { type Attempt, group, type Seen } from "./Attempt.ts"
import { openFolder } from "./World.ts"

const saysNot = (pattern: RegExp) => (seen: Seen) => assert.notMatch(`${seen.stdout}${seen.stderr}`, pattern)
/** The host's own paths and modules, which an error's trace would tell. */
const traces = saysNot(/node_modules|node:internal|file:\/\/|\.ts:\d+|\.js:\d+/)
const soon = "2 seconds"

const claw = fileURLToPath(new URL("claw.ts", import.meta.url))

const Report = Schema.Struct({
  outcome: Schema.String,
  other: Schema.String,
  next: Schema.String,
  own: Schema.String,
  files: Schema.Boolean,
  megabytes: Schema.Finite
})
const decodeReport = Schema.decodeUnknownSync(Schema.fromJsonString(Report))

/** Runs in a session of 64 MiB of a claw of its own, which must live, and answer in that session and in another one. */
const inItsOwnClaw = (
  script: string,
  {
    furnish = () => {},
    next = false,
    seconds = 2
  }: { readonly furnish?: (workspace: string) => void; readonly next?: boolean; readonly seconds?: number } = {}
) => ({
  in: ["virtual shell"] as const,
  by: () =>
    Effect.gen(function* () {
      const folder = openFolder("claw-alone-")
      yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(folder, { recursive: true, force: true })))
      for (const name of ["attacked", "other"]) mkdirSync(join(folder, name))
      furnish(join(folder, "attacked"))
      const child = spawn(process.execPath, ["--conditions=source", claw, folder, script, String(seconds)])
      yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
      let said = ""
      child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()))
      child.stderr.resume()
      const ended = yield* Effect.promise(() => once(child, "close")).pipe(Effect.timeoutOption((seconds + 8) * 1000))
      assert.strictEqual(ended._tag, "Some", "the claw is not held up")
      assert.deepStrictEqual([child.exitCode, child.signalCode], [0, null], "the claw lives")
      const report = decodeReport(said)
      assert.deepInclude(report, { other: "on", own: "on", files: true }, "all go on")
      if (next) assert.strictEqual(report.next, "on", "the very next command")
      assert.isBelow(report.megabytes, 768, "the claw's memory")
      return report.outcome
    }).pipe(Effect.scoped)
})

const names = group("Names that mean something to JavaScript", [
  {
    name: "variables",
    virtual:
      "__proto__=x; constructor=y; prototype=z; toString=w; hasOwnProperty=v; export __proto__; echo $__proto__ $constructor; env | sort; unset __proto__; echo ${valueOf} ${__defineGetter__}",
    holds: traces
  },
  {
    name: "arrays",
    virtual:
      'declare -A a; a[__proto__]=x; a[constructor]=y; a[toString]=z; for k in "${!a[@]}"; do echo $k=${a[$k]}; done; declare -a b; b[__proto__]=1; b=([constructor]=2); echo ${a[polluted]} ${b[polluted]} ${polluted}',
    holds: traces
  },
  {
    name: "functions and aliases",
    virtual:
      "__proto__() { echo in; }; __proto__; constructor() { echo in; }; constructor; toString; valueOf; hasOwnProperty; alias __proto__=ls; unset -f constructor; constructor",
    holds: traces
  },
  {
    name: "commands and paths",
    virtual:
      "command -v constructor __proto__ toString; type __proto__; /bin/__proto__; ./constructor; PATH=__proto__ ls; which __proto__ constructor",
    holds: traces
  },
  {
    name: "files",
    virtual:
      "for n in __proto__ constructor prototype toString hasOwnProperty; do echo $n > $n; cat $n; echo x > /tmp/$n; cat /tmp/$n; mkdir -p /tmp/d/$n/$n; done; ls /tmp; rm __proto__; ls",
    holds: traces
  },
  {
    name: "awk's arrays",
    virtual:
      'awk \'BEGIN { a["__proto__"] = 1; a["__proto__","polluted"] = 3; for (k in a) print k; print ENVIRON["__proto__"], ENVIRON["constructor"], b["toString"], b["polluted"]; constructor = 1; __proto__ = 2; print constructor, __proto__ }\'; awk -v __proto__=1 -v constructor=2 \'BEGIN { print __proto__ }\'',
    holds: saysNot(/native code|node_modules|node:internal/)
  },
  {
    name: "awk's functions",
    virtual:
      "awk 'function constructor(x) { return x } BEGIN { print constructor(1); print toString(2) }'; awk 'BEGIN { print __proto__(1) }'; awk 'BEGIN { print length(constructor), substr(\"x\", \"__proto__\") ; printf \"%s %d\", __proto__, constructor }'",
    holds: saysNot(/native code|node_modules|node:internal/)
  },
  {
    name: "jq's objects",
    virtual:
      'echo \'{"__proto__": {"polluted": 1}, "constructor": {"prototype": {"polluted": 1}}}\' | jq -c \'., .__proto__, .constructor.prototype, keys, (. * {__proto__: {x: 1}}), ({} | .polluted), (setpath(["__proto__","polluted"]; 1) | {} | .polluted), ([.[]] | add), to_entries, (to_entries | from_entries)\'; echo \'{}\' | jq \'.toString, .constructor, .hasOwnProperty, has("toString"), .__proto__.polluted\'',
    holds: saysNot(/native code|node_modules|node:internal/)
  },
  {
    name: "jq's names",
    virtual:
      "jq -n 'constructor'; jq -n '$__proto__'; jq -n '__proto__'; jq -n 'def constructor: 1; constructor'; jq -n --arg __proto__ x '$__proto__'; jq -n '$ENV, env, $__loc__, input_filename, get_search_list, modulemeta, builtins'; jq -n '$ENV.PATH, env.HOME'",
    holds: saysNot(/native code|canary|VITEST|node_modules/)
  },
  {
    name: "sed's labels and files",
    virtual:
      "echo x | sed ':__proto__; s/x/y/; t __proto__'; echo x | sed 'b constructor'; echo x | sed 'w __proto__'; echo x | sed 'y/abc/__proto__/'",
    holds: traces
  },
  {
    name: "records of yq, xan and sqlite",
    virtual:
      "printf '__proto__:\\n  polluted: 1\\nconstructor: {prototype: {polluted: 2}}\\n' > a.yml; yq -o json . a.yml; yq '.polluted' a.yml; printf '__proto__,constructor,toString\\n1,2,3\\n' > a.csv; xan headers a.csv; xan to json a.csv; xan select __proto__ a.csv; sqlite3 :memory: 'create table __proto__(constructor, toString); insert into __proto__ values(1, 2); select * from __proto__' -json",
    holds: saysNot(/native code|node_modules|node:internal/)
  },
  {
    name: "a prototype for the next command",
    virtual:
      "echo \"[${polluted}]\"; jq -n '{} | .polluted'; awk 'BEGIN { print a[\"polluted\"] }'; env | grep -c polluted",
    holds: saysNot(/[123]/)
  }
])

const code = group("Code in the claw's process", [
  {
    name: "awk's commands",
    virtual: ({ world }) =>
      `awk 'BEGIN { system("cat ${world.secret}") }'; awk 'BEGIN { "cat ${world.secret}" | getline x; print x }'; awk 'BEGIN { while ((getline l < "${world.secret}") > 0) print l }'; awk 'BEGIN { print "x" > "${world.outside}/awk" }'; awk 'BEGIN { print "x" | "cat > ${world.outside}/pipe" }'; awk -f ${world.secret}; awk '{ print }' ${world.secret}`
  },
  {
    name: "sed's files and commands",
    virtual: ({ world }) =>
      `echo x | sed 'r ${world.secret}'; echo x | sed 'w ${world.outside}/sed'; echo 'cat ${world.secret}' | sed e; echo x | sed 's/x/cat ${world.secret.replaceAll("/", "\\/")}/e'; sed -n 'R ${world.secret}' ${world.secret}; sed -f ${world.secret} /dev/null`
  },
  {
    name: "jq's files",
    virtual: ({ world }) =>
      `jq -n --slurpfile a ${world.secret} '$a'; jq -n --rawfile a ${world.secret} '$a'; jq -n -L ${world.folder} 'import "secret" as s; s::x'; jq -n 'include "secret"; .' ; jq -f ${world.secret}; jq . ${world.secret}`
  },
  {
    name: "yq's files and variables",
    virtual: ({ world }) =>
      `yq -n 'load("${world.secret}")'; yq -n 'load_str("${world.secret}")'; yq -n 'env(${world.variable})'; yq -n 'strenv(PATH)'; yq . ${world.secret}`
  },
  {
    name: "sqlite's files and extensions",
    virtual: ({ world }) =>
      `sqlite3 ${world.folder}/x.db 'create table t(a)'; sqlite3 :memory: "select readfile('${world.secret}')"; sqlite3 :memory: "select writefile('${world.outside}/w', 'x')"; sqlite3 :memory: "select load_extension('/lib/x.so')"; sqlite3 :memory: "attach '${world.outside}/db' as x; create table x.t(a)"; sqlite3 :memory: "vacuum into '${world.outside}/v'"; sqlite3 :memory: '.read ${world.secret}' '.shell cat ${world.secret}' '.import ${world.secret} t'; sqlite3 ${world.secret} .dump`
  },
  {
    name: "sqlite on a link that the host made",
    act: {
      in: ["virtual shell"],
      by: ({ own, world }) =>
        Effect.sync(() => execFileSync("ln", ["-s", join(world.outside, "new.db"), join(own.workspace, "l.db")])).pipe(
          Effect.andThen(
            Sandbox.run(own.session, {
              run: "sqlite3 l.db 'create table t(a); insert into t values(1)'; sqlite3 /workspace/l.db .tables"
            })
          ),
          Effect.map(({ stderr, stdout }) => `${stdout}${stderr.split("\n")[0]?.split(": ").at(-1) ?? ""}`)
        )
    }
  },
  {
    name: "JavaScript and Python",
    virtual:
      "js-exec 'console.log(process.env)'; node -e 'process.exit(1)'; python3 -c 'print(1)'; deno; bun; perl -e 1; ruby; lua; php; ts-node; npm; npx; true",
    holds: saysNot(/^\{|^1$/m)
  },
  {
    name: "templates and tags",
    virtual:
      "echo '${process.env.HOME} {{constructor.constructor(\"return process\")()}} <script>process.exit()</script> #{7*7} <%= 7*7 %>' | tee x | html-to-markdown; printf '%s\\n' '${process}'; echo \"$(<x)\"; eval \"echo \\${process}\"; echo $((constructor)) $((__proto__+1)) $((process.exit))",
    holds: saysNot(/native code|node_modules|49/)
  },
  {
    name: "YAML that makes objects",
    virtual:
      "printf 'a: !!js/function \"function(){ return process.env }\"\\nb: !!python/object/apply:os.system [id]\\nc: !!js/regexp /(a+)+$/\\n' | yq -o json .; printf 'a: &a [x,x,x,x,x,x,x,x,x]\\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\\n' | yq -o json . | wc -c",
    deadline: soon,
    holds: traces
  },
  {
    name: "the traces of an error",
    virtual:
      "cat /nonexistent; awk 'BEGIN { print substr( }'; jq '.[' x; sed 's/(/' x; grep '(' x; sqlite3 /x/y .tables; tar xf nothing; gunzip < /bin/ls; base64 -d <<< '!!'; printf '%d' x; xan; yq '.[' x; date -d nonsense; sort -k x; history; help | head -n 3",
    holds: traces
  },
  {
    name: "the names of the host",
    virtual:
      "hostname; whoami; echo $HOSTNAME $USER $HOME $UID $EUID $PPID $$ $BASHPID $RANDOM; cat /proc/version /proc/self/*; uname -a; ls -la / /home /proc /dev",
    holds: (seen) => assert.notInclude(seen.stdout, String(process.pid))
  },
  {
    name: "pipes that the host made, which hold the claw's own threads up",
    open: { "virtual shell": "the claw reads no file any more, and does not end" },
    act: inItsOwnClaw("for i in 0 1 2 3 4 5 6 7; do cat p$i & done; wait; cat p0", {
      furnish: (workspace) =>
        execFileSync("mkfifo", ["p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7"], { cwd: workspace })
    })
  }
])

const bombs = group("Expansions without end", [
  { name: "a string that doubles", act: inItsOwnClaw("s=x; while :; do s=$s$s; done", { seconds: 20 }) },
  {
    name: "an array without end",
    act: inItsOwnClaw("s=$(printf '%1000000s' x); i=0; while :; do a[$i]=$s$s$s$s$s$s$i; i=$((i+1)); done", {
      next: true
    })
  },
  {
    name: "files in memory without end",
    act: inItsOwnClaw(
      "printf '%1000000s' x > a; for i in 1 2 3 4 5; do cat a a > b; mv b a; done; for i in {1..40}; do cp a /tmp/f$i || break; done; ls /tmp | wc -l"
    )
  },
  {
    name: "braces",
    virtual:
      "echo {1..1000000000} | wc -c; echo {a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b} | wc -c",
    deadline: soon
  },
  {
    name: "globs",
    virtual:
      "mkdir -p /tmp/a/a/a/a/a/a/a/a; for i in {1..300}; do : > /tmp/a/$i; done; echo /**/**/**/**/**/** | wc -c; echo /*/*/*/*/*/*/../*/*/../../* | wc -c; shopt -s extglob globstar; echo /tmp/a/+(+(+(+(1|2)))) | wc -c; [[ aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab == *a*a*a*a*a*a*a*a*a*a*a*a*a*a*c ]]",
    deadline: soon
  },
  {
    name: "patterns of grep",
    virtual:
      "printf '%5000s!' | tr ' ' a > x; grep -E '^(a+)+$' x; grep -P '(a|a)*$b' x; rg '(a*)*b' x; grep -E '(((((a*)*)*)*)*)*b' x; grep -E 'a{1000}{1000}' x",
    deadline: soon
  },
  {
    name: "patterns of sed, awk, jq and the shell",
    virtual:
      "s=$(printf '%40s!' | tr ' ' a); echo $s | sed -E 's/^(a|aa)+$/x/'; echo $s | awk '/^(a|a)*$/ { print }'; echo $s | awk '{ gsub(/(a*)*b/, \"x\"); print }'; [[ $s =~ ^(a|aa)+$ ]]; jq -n --arg s $s '$s | test(\"^(a|aa)+$\")'; echo ${s//+(+(a))b/x} | wc -c; find . -regex '\\(a*\\)*b'; expr $s : '\\(a*\\)*b'",
    deadline: soon
  },
  {
    name: "strings that double",
    act: inItsOwnClaw("s=aaaaaaaaaaaaaaaa; while :; do s=${s//a/aaaaaaaaaaaaaaaa}; done")
  },
  {
    name: "awk's strings",
    act: inItsOwnClaw(
      "awk 'BEGIN { s = \"x\"; while (1) s = s s }'; awk 'BEGIN { while (1) a[n++] = sprintf(\"%1000d\", n) }'"
    )
  },
  {
    name: "jq's values",
    act: inItsOwnClaw(
      "jq -n '[range(1e9)] | length'; jq -n 'def f: [., .] | f; 1 | f'; jq -n '\"x\" * 1e9 | length'; jq -n '[recurse(.+1)] | length'"
    )
  },
  {
    name: "an array of jq without end",
    act: inItsOwnClaw("jq -n '[limit(1e8; repeat(1))] | length'", { seconds: 20 })
  },
  {
    name: "widths and counts",
    act: inItsOwnClaw(
      "printf '%1000000000d' 1 | wc -c; printf '%.*f' 1000000000 1 | wc -c; seq 1 1e15 | tail -n 1; head -c 100000000000 /dev/zero | wc -c; yes | head -n 1000000000 | wc -l"
    )
  },
  {
    name: "recursion of functions",
    virtual:
      "f() { f; }; f; g() { eval g; }; g; h() { $(h); }; h; k() { bash -c 'k'; }; k; source /dev/stdin <<< 'source /dev/stdin'; trap 'trap_me' ERR DEBUG; alias l='l l'; l",
    deadline: soon,
    holds: saysNot(/node_modules|node:internal/)
  },
  {
    name: "a script that calls itself",
    virtual:
      "echo 'bash ./r.sh' > r.sh; bash ./r.sh; echo '. ./s.sh' > s.sh; . ./s.sh; echo 'cat x | xargs -I{} bash ./t.sh' > t.sh; bash t.sh",
    deadline: soon,
    holds: saysNot(/node_modules|node:internal/)
  },
  {
    name: "nesting of a program",
    virtual:
      "n=$(printf '%20000s' | tr ' ' '('); eval \"echo \\$(($n\"; eval \"$n\"; s=$(printf '%5000s' | sed 's/ /$(/g'); eval \"echo $s\"; eval \"$(printf '%20000s' | sed 's/ /if true; then /g')\"; eval \"$(printf '%20000s' | sed 's/ /{ /g')\"",
    deadline: soon,
    holds: saysNot(/node_modules|node:internal/)
  },
  {
    name: "nesting of data",
    virtual:
      "n=$(printf '%100000s' | tr ' ' '['); echo $n | jq .; echo $n | yq .; jq -n \"$n\"; echo \"$(printf '%20000s' | sed 's/ /<div>/g')\" | html-to-markdown | wc -c; awk \"BEGIN { print $(printf '%20000s' | tr ' ' '(') }\"; sqlite3 :memory: \"select $(printf '%5000s' | tr ' ' '(')1\"; echo x | sed -E \"s/$(printf '%20000s' | tr ' ' '(')/y/\"; grep -E \"$(printf '%20000s' | tr ' ' '(')\" x",
    deadline: "2 seconds",
    holds: saysNot(/node_modules|node:internal/)
  },
  {
    name: "numbers beyond numbers",
    virtual:
      "echo $((2**63)) $((1/0)) $((2**-1)) $((10**1000)) $((-9223372036854775808 / -1)); echo $((x[1e9]=1)); a[99999999999]=1; a[-1]=1; echo ${a[@]:0:99999999999}; s=x; echo ${s:99999999999:99999999999}; printf '%d' 99999999999999999999999",
    deadline: soon,
    holds: traces
  },
  {
    name: "sqlite without end",
    virtual:
      "sqlite3 :memory: 'with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c'",
    deadline: soon
  },
  {
    name: "sqlite's memory",
    alone: { memory: "64 MiB" },
    virtual:
      'sqlite3 :memory: "create table t(a); with recursive c(x) as (select 1 union all select x + 1 from c limit 2000) insert into t select zeroblob(1000000) from c; select count(*) from t"',
    deadline: "2 seconds"
  },
  {
    name: "an archive that grows",
    act: inItsOwnClaw(
      "printf '%30000000s' > x; gzip -c x > x.gz; for i in 1 2 3 4 5 6 7 8; do cat x.gz x.gz > y.gz; mv y.gz x.gz; done; zcat x.gz | wc -c; gunzip -c x.gz > /tmp/big; ls -l /tmp"
    )
  },
  {
    name: "diff, sort and find without end",
    virtual:
      "seq 1 30000 > a; seq 30000 -1 1 > b; diff a b | wc -l; for i in 1 2 3 4; do cat a b a b > c; mv c a; done; sort -R a | sort -n | uniq -c | wc -l; find / -exec find / -name x \\; | wc -l; tree / | wc -l; join a a | wc -l",
    deadline: soon
  },
  {
    name: "thousands of commands at once",
    act: {
      in: ["virtual shell"],
      by: ({ open }) =>
        Effect.scoped(
          Effect.gen(function* () {
            const { session } = yield* open()
            const all = yield* Effect.forEach(
              Array.from({ length: 2000 }),
              () => Sandbox.run(session, { run: "echo x", deadline: "20 seconds" }),
              { concurrency: "unbounded" }
            ).pipe(Effect.timeoutOption("20 seconds"))
            return all._tag === "Some" ? "each was answered" : "killed at their deadline"
          })
        )
    }
  }
])

export const shell: ReadonlyArray<Attempt> = [...names, ...code, ...bombs]
