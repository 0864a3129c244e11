/*
 * openapi.c - GET /openapi.json: the description of the API as OpenAPI 3.1, made from the table of endpoints.
 *
 * Paths, methods, roles, parameters and the names of bodies come from endpoints.c; what those names mean stands here as
 * JSON Schema, with apostrophes for quotes, which C would want escaped. The document is made once.
 */
#include "api.h"

#include <pthread.h>
#include <string.h>

#include "io/io.h"

#define STRING    "{'type':'string'}"
#define BOOLEAN   "{'type':'boolean'}"
#define COUNT     "{'type':'integer','minimum':0}"
#define NUMBER    "{'type':['number','null']}"
#define STRINGS   "{'type':'array','items':{'type':'string'}}"
#define REF(name) "{'$ref':'#/components/schemas/" name "'}"
#define TIMES                                                                                      \
    "'queue':" COUNT ",'fast':" COUNT ",'encode':" COUNT ",'search':" COUNT ",'decide':" COUNT     \
    ",'total':" COUNT

static const char
    schemas
        [] =
            "'Problem':{'type':'object','description':'Problem details as RFC 9457 has "
            "them.','required':['type','title','status',"
            "'detail'],'properties':{'type':" STRING ",'title':" STRING ",'status':" COUNT
            ",'detail':" STRING ",'error':{'type':'object','description':'The same for clients of "
            "OpenAI: only of /v1/embeddings.','properties':{'message':" STRING ",'type':" STRING
            ",'param':{},'code':" STRING "}}}},"
            "'Status':{'type':'object','required':['status'],'properties':{'status':" STRING "}},"
            "'RouteRequest':{'type':'object','additionalProperties':false,'oneOf':[{'required':['"
            "text']},{'required':['texts']}],"
            "'properties':{'text':" STRING ",'texts':" STRINGS
            ",'top_k':{'type':'integer','minimum':0,'maximum':1000,'default':3},"
            "'path':{'enum':['auto','fast','slow'],'default':'auto'},'reject':{'type':'boolean','"
            "default':true},"
            "'as_is':{'type':'boolean','default':false,'description':'Do not mend misspelt "
            "words.'},"
            "'timeout_ms':{'type':'integer','minimum':1},'timings':{'type':'boolean','default':"
            "false}}},"
            "'Candidate':{'type':'object','required':['route','confidence','score','utterance'],'"
            "properties':{'route':" STRING ","
            "'confidence':" NUMBER ",'score':" NUMBER ",'utterance':" STRING "}},"
            "'Decision':{'type':'object','required':['text','status','route','confidence','score','"
            "margin','reason','path',"
            "'truncated','revision','fitted','candidates'],'properties':{'text':" STRING
            ",'status':{'enum':['matched','none']},"
            "'route':{'type':['string','null']},'confidence':" NUMBER ",'score':" NUMBER
            ",'margin':" NUMBER ","
            "'reason':{'enum':['matched','below_threshold','ambiguous','empty_table','empty_text']}"
            ","
            "'path':{'enum':['fast','slow']},'truncated':" BOOLEAN ",'revision':" COUNT
            ",'fitted':" BOOLEAN ","
            "'candidates':{'type':'array','items':" REF(
                "Candidate") "},'read_as':" STRING ","
                             "'timings_ns':" REF("Timings") ",'batch':" REF(
                                 "Batch") "}},"
                                          "'Timings':{'type':'object','properties':{" TIMES "}},"
                                          "'Batch':{'type':'object','properties':{'texts':" COUNT
                                          ",'tokens':" COUNT "}},"
                                          "'Decisions':{'type':'object','required':['decisions'],'"
                                          "properties':{'decisions':{'type':'array','items':" REF("Decision") "},'timings_ns':" REF("Timings") ",'batch':" REF(
                                              "Batch") "}},"
                                                       "'RouteAnswer':{'oneOf':[" REF("Decision") "," REF(
                                                           "Decisions") "]},"
                                                                        "'EmbeddingsRequest':{'"
                                                                        "type':'object','"
                                                                        "additionalProperties':"
                                                                        "false,'required':['input']"
                                                                        ",'properties':{'input':{'"
                                                                        "oneOf':[" STRING
                                                                        "," STRINGS
                                                                        "]},'model':" STRING
                                                                        ",'encoding_format':{'enum'"
                                                                        ":['float','base64'],'"
                                                                        "default':'float'},"
                                                                        "'dimensions':{'type':'"
                                                                        "integer','minimum':1},'"
                                                                        "user':" STRING "}},"
                                                                        "'Embeddings':{'type':'"
                                                                        "object','required':['"
                                                                        "object','data','model','"
                                                                        "usage'],'properties':{'"
                                                                        "object':{'const':'list'},"
                                                                        "'data':{'type':'array','"
                                                                        "items':{'type':'object','"
                                                                        "required':['object','"
                                                                        "index','embedding'],'"
                                                                        "properties':{"
                                                                        "'object':{'const':'"
                                                                        "embedding'},'index':" COUNT
                                                                        ",'embedding':{'oneOf':"
                                                                        "[" STRING
                                                                        ",{'type':'array','items':{"
                                                                        "'type':'number'}}]}}}},'"
                                                                        "model':" STRING
                                                                        ",'usage':{'type':'object',"
                                                                        "'properties':{"
                                                                        "'prompt_tokens':" COUNT
                                                                        ",'total_tokens':" COUNT
                                                                        "}}}},"
                                                                        "'Info':{'type':'object','"
                                                                        "required':['database','"
                                                                        "version','revision','"
                                                                        "routes','utterances','"
                                                                        "model','caller'],"
                                                                        "'properties':{'database':{"
                                                                        "'type':['string','null']},"
                                                                        "'version':" STRING
                                                                        ",'revision':" COUNT
                                                                        ",'routes':" COUNT ","
                                                                        "'utterances':" COUNT
                                                                        ",'model':{'type':['string'"
                                                                        ",'null']},'caller':{'type'"
                                                                        ":'object','properties':{"
                                                                        "'key':{'type':['string','"
                                                                        "null']},'role':{'enum':['"
                                                                        "read','write','admin']}}}}"
                                                                        "},"
                                                                        "'Threshold':{'description'"
                                                                        ":'A cosine, or "
                                                                        "auto.','oneOf':[{'type':'"
                                                                        "number','minimum':-1,'"
                                                                        "maximum':1},{'const':'"
                                                                        "auto'}]},"
                                                                        "'Route':{'type':'object','"
                                                                        "required':['route'],'"
                                                                        "properties':{'route'"
                                                                        ":" STRING
                                                                        ",'utterances':" STRINGS ","
                                                                        "'utterance_count':" COUNT
                                                                        ",'threshold':" REF(
                                                                            "Threshold") ",'"
                                                                                         "confidenc"
                                                                                         "e':{'"
                                                                                         "type':'"
                                                                                         "number','"
                                                                                         "minimum':"
                                                                                         "0,'"
                                                                                         "maximum':"
                                                                                         "1},"
                                                                                         "'descript"
                                                                                         "ion'"
                                                                                         ":" STRING
                                                                                         ",'"
                                                                                         "metadata'"
                                                                                         ":{},'"
                                                                                         "revision'"
                                                                                         ":" COUNT
                                                                                         "}},"
                                                                                         "'RouteInp"
                                                                                         "ut':{'"
                                                                                         "type':'"
                                                                                         "object','"
                                                                                         "additiona"
                                                                                         "lProperti"
                                                                                         "es':"
                                                                                         "false,'"
                                                                                         "propertie"
                                                                                         "s':{'"
                                                                                         "route'"
                                                                                         ":" STRING
                                                                                         ",'"
                                                                                         "utterance"
                                                                                         "s'"
                                                                                         ":" STRINGS
                                                                                         ","
                                                                                         "'threshol"
                                                                                         "d':" REF(
                                                                                             "Thres"
                                                                                             "hold") ",'confidence':{'type':'number','minimum':0,'maximum':1},'description':" STRING
                                                                                                     ","
                                                                                                     "'metadata':{},'revision':" COUNT
                                                                                                     ",'utterance_count':" COUNT
                                                                                                     "}},"
                                                                                                     "'RoutePage':{'type':'object','required':['revision','total','matching','routes','cursor'],'properties':{'revision':" COUNT ",'total':" COUNT ",'matching':{'type':['integer','null']},'routes':{'type':'array','items':" REF("Route") "},"
                                                                                                                                                                                                                                                                                                                                            "'cursor':{'type':['string','null']}}},"
                                                                                                                                                                                                                                                                                                                                            "'Utterances':{'type':'object','additionalProperties':false,'required':['utterances'],'properties':{'utterances':" STRINGS
                                                                                                                                                                                                                                                                                                                                            "}},"
                                                                                                                                                                                                                                                                                                                                            "'OosExamples':{'type':'object','required':['revision','utterances'],'properties':{'revision':" COUNT
                                                                                                                                                                                                                                                                                                                                            ",'utterances':" STRINGS
                                                                                                                                                                                                                                                                                                                                            "}},"
                                                                                                                                                                                                                                                                                                                                            "'Receipt':{'type':'object','required':['revision','routes_added','routes_changed','routes_removed','utterances_added',"
                                                                                                                                                                                                                                                                                                                                            "'utterances_removed','duplicates','oos_added','oos_removed','durability','lost'],'properties':{'revision':" COUNT
                                                                                                                                                                                                                                                                                                                                            ","
                                                                                                                                                                                                                                                                                                                                            "'routes_added':" COUNT
                                                                                                                                                                                                                                                                                                                                            ",'routes_changed':" COUNT ",'routes_removed':" COUNT ",'utterances_added':" COUNT
                                                                                                                                                                                                                                                                                                                                            ","
                                                                                                                                                                                                                                                                                                                                            "'utterances_removed':" COUNT
                                                                                                                                                                                                                                                                                                                                            ",'duplicates':" COUNT
                                                                                                                                                                                                                                                                                                                                            ",'oos_added':" COUNT
                                                                                                                                                                                                                                                                                                                                            ",'oos_removed':" COUNT
                                                                                                                                                                                                                                                                                                                                            ","
                                                                                                                                                                                                                                                                                                                                            "'durability':{'enum':['normal','full','deferred']},'lost':" COUNT
                                                                                                                                                                                                                                                                                                                                            "}},"
                                                                                                                                                                                                                                                                                                                                            "'Progress':{'type':'object','required':['done','total'],'properties':{'done':" COUNT ",'total':" COUNT
                                                                                                                                                                                                                                                                                                                                            "}},"
                                                                                                                                                                                                                                                                                                                                            "'Failed':{'type':'object','required':['problem'],'properties':{'problem':" REF("Problem") "}},"
                                                                                                                                                                                                                                                                                                                                                                                                                                       "'ImportProgress':{'description':'Lines of JSON, the last with the receipt.','anyOf':[" REF(
                                                                                                                                                                                                                                                                                                                                                                                                                                           "Progress") "," REF("Receipt") "," REF("Failed") "]},"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                            "'FitRequest':{'type':'object','additionalProperties':false,'properties':{'max_oos':" NUMBER
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                            ",'min_precision':" NUMBER
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                            ","
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                            "'route':" STRING
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                            ",'texts':{'type':'array','items':{'type':'object','required':['text'],'properties':{'text':" STRING
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                            ","
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                            "'route':{'type':['string','null']}}}}}},"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                            "'Report':{'type':'object','required':['report'],'properties':{'report':{'type':'object'}}},"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                            "'FitProgress':{'description':'Lines of JSON, the last with the report.','anyOf':[" REF(
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                "Progress") "," REF("Report") "," REF("Failed") "]},"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                "'EvalProgress':{'description':'Lines of JSON, the last with the report.','anyOf':[" REF("Progress") "," REF("Report") "," REF("Failed") "]},"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         "'File':{'type':'string','description':'CSV, JSON Lines or YAML.'},"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         "'Lint':{'type':'object','required':['revision','counts','findings'],'properties':{'revision':" COUNT
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         ",'counts':{'type':"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         "'object'},'findings':{'type':'array','items':{'type':'object'}}}},"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         "'Map':{'type':'object','required':['revision','routes','total','explained','points'],'properties':{'revision':" COUNT
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         ","
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         "'routes':" STRINGS
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         ",'total':" COUNT
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         ",'explained':{'type':'array','items':{'type':'number'}},'points':{'type':'array',"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         "'items':{'type':'object','required':['x','y','route','utterance'],'properties':{'x':{'type':'number'},'y':{'type':"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         "'number'},'route':" COUNT
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         ",'utterance':" STRING
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         "}}}}},"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         "'Stats':{'type':'object','required':['uptime_seconds','requests']},"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         "'OpenApi':{'type':'object'}";

/* Parameters of the query that are not strings. */
static const struct {
    const char *name, *schema, *description;
} parameters[] = {
    {"limit", "{'type':'integer','minimum':1}", "At most so many."},
    {"cursor", STRING, "The cursor of the page before."},
    {"prefix", STRING, "What names begin with."},
    {"search", STRING, "What names or descriptions hold, in any case."},
    {"utterances", BOOLEAN, "With the utterances."},
    {"format", "{'enum':['csv','jsonl','yaml']}", "Of the file; else the Content-Type tells it."},
    {"text_column", STRING, "Name of the column of texts."},
    {"route_column", STRING, "Name of the column of routes."},
    {"oos_label", STRING, "The label of texts that belong to no route (oos)."},
    {"replace", BOOLEAN, "A route of the file becomes exactly what the file says."},
    {"fit", BOOLEAN, "Learn from the table afterwards."},
    {"path", "{'enum':['auto','fast','slow']}", "The path that decides."},
    {"reject", BOOLEAN, "false: the best route, whatever thresholds say."},
};

static bool put(sri_buffer *out, const char *quoted) {
    bool done = true;
    for (; done && *quoted != '\0'; quoted++)
        done = sri_buffer_append(out, *quoted == '\'' ? "\"" : quoted, 1);
    return done;
}

static bool put_parameter(sri_buffer *out, const char *name, size_t len) {
    const char *schema = STRING, *description = "";
    for (size_t i = 0; i < SRI_COUNT(parameters); i++)
        if (strncmp(parameters[i].name, name, len) == 0 && parameters[i].name[len] == '\0') {
            schema = parameters[i].schema;
            description = parameters[i].description;
        }
    return sri_buffer_format(
               out,
               "{\"name\":\"%.*s\",\"in\":\"query\",\"description\":\"%s\",\"schema\":", (int)len,
               name, description) &&
           put(out, schema) && put(out, "}");
}

static bool put_parameters(sri_buffer *out, const srv_endpoint *endpoint) {
    const char *comma = "";
    bool done = put(out, ",'parameters':[");
    if (done && strstr(endpoint->pattern, "{name}") != NULL) {
        done = put(out, "{'name':'name','in':'path','required':true,'schema':" STRING "}");
        comma = ",";
    }
    const char *change =
        endpoint->response != NULL && (strcmp(endpoint->response, "Receipt") == 0 ||
                                       strcmp(endpoint->response, "ImportProgress") == 0)
            ? "If-Match"
            : NULL;
    if (done && change != NULL) {
        done = sri_buffer_append_str(out, comma) &&
               put(out, "{'name':'If-Match','in':'header','description':'The revision (ETag) that "
                        "the table must have.','schema':" STRING "}");
        comma = ",";
    }
    for (const char *at = endpoint->query; done && at != NULL && *at != '\0';
         at += strspn(at, " ")) {
        size_t len = strcspn(at, " ");
        done = sri_buffer_append_str(out, comma) && put_parameter(out, at, len);
        comma = ",";
        at += len;
    }
    return done && put(out, "]");
}

/* The media types that a schema comes in, separated by spaces. */
static const char *media_types(const char *schema) {
    return strstr(schema, "Progress") != NULL ? "application/x-ndjson"
           : strcmp(schema, "File") == 0      ? "application/yaml text/csv application/x-ndjson"
                                              : "application/json";
}

/* `schema` names one, or is a media type. */
static bool put_content(sri_buffer *out, const char *schema) {
    if (strchr(schema, '/') != NULL)
        return sri_buffer_format(out, "\"content\":{\"%s\":{\"schema\":{\"type\":\"string\"}}}",
                                 schema);
    const char *comma = "";
    bool done = put(out, "'content':{");
    for (const char *at = media_types(schema); done && *at != '\0'; at += strspn(at, " ")) {
        size_t len = strcspn(at, " ");
        done =
            sri_buffer_format(out, "%s\"%.*s\":{\"schema\":{\"$ref\":\"#/components/schemas/%s\"}}",
                              comma, (int)len, at, schema);
        comma = ",";
        at += len;
    }
    return done && put(out, "}");
}

/* Whether a change may make a route, which is told by another status. */
static bool may_create(const srv_endpoint *endpoint) {
    return endpoint->response != NULL && strcmp(endpoint->response, "Receipt") == 0 &&
           strcmp(endpoint->method, "DELETE") != 0 && strstr(endpoint->pattern, "{name}") != NULL;
}

static bool put_operation(sri_buffer *out, const srv_endpoint *endpoint) {
    static const char *const roles[] = {"", "read", "write", "admin"};
    char method[8];
    size_t len = 0;
    for (; endpoint->method[len] != '\0'; len++) method[len] = (char)(endpoint->method[len] | 32);
    method[len] = '\0';
    bool done = sri_buffer_format(out, "\"%s\":{\"operationId\":\"%s\",\"summary\":\"%s\"", method,
                                  endpoint->name, endpoint->summary) &&
                put_parameters(out, endpoint);
    if (done && endpoint->role != SRV_OPEN)
        done = sri_buffer_format(
            out, ",\"security\":[{\"key\":[]}],\"description\":\"Needs the role %s.\"",
            roles[endpoint->role]);
    if (done && endpoint->request != NULL)
        done = put(out, ",'requestBody':{'required':true,") &&
               put_content(out, endpoint->request) && put(out, "}");
    done = done && put(out, ",'responses':{'200':{'description':'Done.'");
    if (done && endpoint->response != NULL)
        done = put(out, ",") && put_content(out, endpoint->response);
    if (done && may_create(endpoint))
        done = put(out, "},'201':{'description':'Done; the route is new.',") &&
               put_content(out, endpoint->response);
    return done &&
           put(out,
               "},'default':{'description':'A "
               "problem.','content':{'application/problem+json':{'schema':" REF("Problem") "}}}}}");
}

/* Is there an endpoint before this one with its path? */
static bool is_repeated(const srv_endpoint *all, size_t i) {
    for (size_t j = 0; j < i; j++)
        if (strcmp(all[j].pattern, all[i].pattern) == 0) return true;
    return false;
}

static bool put_paths(sri_buffer *out) {
    size_t count;
    const srv_endpoint *all = srv_endpoints(&count);
    const char *comma = "";
    bool done = true;
    for (size_t i = 0; done && i < count; i++) {
        if (is_repeated(all, i)) continue;
        const char *inner = "";
        done = sri_buffer_format(out, "%s\"%s\":{", comma, all[i].pattern);
        for (size_t j = i; done && j < count; j++) {
            if (strcmp(all[j].pattern, all[i].pattern) != 0) continue;
            done = sri_buffer_append_str(out, inner) && put_operation(out, &all[j]);
            inner = ",";
        }
        done = done && put(out, "}");
        comma = ",";
    }
    return done;
}

static sri_buffer document;

static void make_document(void) {
    bool done =
        put(&document,
            "{'openapi':'3.1.0','info':{'title':'SynaptoRoute','description':'Decides which route "
            "a text belongs to, or "
            "that it belongs to "
            "none.','license':{'name':'Apache-2.0','identifier':'Apache-2.0'},'version':'") &&
        put(&document, SR_VERSION) && put(&document, "'},'servers':[{'url':'/'}],'paths':{") &&
        put_paths(&document) &&
        put(&document, "},'components':{'securitySchemes':{'key':{'type':'http','scheme':'bearer'}}"
                       ",'schemas':{") &&
        put(&document, schemas) && put(&document, "}}}\n");
    if (!done) sri_buffer_free(&document);
}

void srv_get_openapi(srv_request *request) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_document);
    if (document.len > 0)
        srv_reply_static(request, 200, "application/json", document.data, document.len);
    else
        srv_fail_memory(request);
}
