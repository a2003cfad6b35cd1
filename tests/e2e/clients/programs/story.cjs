// What a user of OpenAI's SDK for Node does; PACKAGE names one of its versions. Prints what came back, as one JSON
// object.
//
// Usage: PACKAGE=... SERVER=URL HASTY_SERVER=URL TEXT_SERVER=URL KEY=... LIST_KEY=... ALIAS=... FIELDS=JSON
// EXTRA=JSON EDIT=JSON node story.cjs FOLDER

const fs = require("node:fs");
const path = require("node:path");
const { setTimeout: sleep } = require("node:timers/promises");
const { OpenAI } = require(process.env.PACKAGE);
const { VERSION } = require(`${process.env.PACKAGE}/version`);

const folder = process.argv[2];
const { SERVER, HASTY_SERVER, TEXT_SERVER, KEY, LIST_KEY, ALIAS } = process.env;
const fields = JSON.parse(process.env.FIELDS);
const extra = JSON.parse(process.env.EXTRA);
const edit = JSON.parse(process.env.EDIT);

const clientOf = (key, server = SERVER) => new OpenAI({ apiKey: key, baseURL: `${server}/v1`, maxRetries: 0 });
const videosOf = (key, server = SERVER) => clientOf(key, server).videos;

// This SDK has no create_and_poll: the loop of its documentation, at the pace that the server asks for.
async function poll(videos, id) {
  for (;;) {
    const { data, response } = await videos.retrieve(id).withResponse();
    if (data.status !== "queued" && data.status !== "in_progress") return data;
    await sleep(Number(response.headers.get("openai-poll-after-ms")) / 4);
  }
}

async function refusal(call) {
  try {
    await call();
  } catch (error) {
    const { status, param, code, requestID } = error;
    return { class: error.constructor.name, status, param, code, request_id: requestID };
  }
}

async function pages(order) {
  const ids = [];
  for await (const video of videosOf(LIST_KEY).list({ limit: 10, order })) ids.push(video.id);
  return ids;
}

async function story() {
  const videos = videosOf(KEY);
  const told = { version: VERSION };
  told.created = await videos.create({ ...fields, ...extra });
  told.made = await poll(videos, (await videos.create({ ...fields, ...extra })).id);
  const made = told.made.id;
  told.polled = await poll(videos, told.created.id);
  told.retrieved = await videos.retrieve(made);
  const content = await videos.downloadContent(made);
  fs.writeFileSync(path.join(folder, "video.mp4"), Buffer.from(await content.arrayBuffer()));
  const stills = await clientOf(KEY).images.generate({ prompt: "a red circle", n: 2, size: "64x64", ...extra });
  told.images = stills.data.map((image) => image.b64_json);
  told.remixed = await videos.remix(made, { prompt: "a blue square" });
  told.named = await videos.create({ prompt: "x", model: ALIAS });
  told.model = await clientOf(KEY).models.retrieve(ALIAS);
  told.listed = { asc: await pages("asc"), desc: await pages("desc") };
  told.deleted = await videos.delete(made);
  const picture = () => fs.createReadStream(path.join(folder, "picture.png"));
  told.moved = await poll(videos, (await videos.create({ prompt: "x", input_reference: picture() })).id);
  const video = () => fs.createReadStream(path.join(folder, "video.mp4"));
  const edited = await videos.edit({ prompt: "a blue circle", video: video(), ...edit });
  const extended = await videos.extend({ prompt: "it stops", video: video(), seconds: "1", ...extra });
  told.edited = await poll(videos, edited.id);
  told.extended = await poll(videos, extended.id);
  const hasty = videosOf(KEY, HASTY_SERVER);
  told.failed = await poll(hasty, (await hasty.create({ prompt: "x", num_inference_steps: 200 })).id);
  told.refused = {
    size: await refusal(() => videos.create({ prompt: "x", size: "65x63" })),
    model: await refusal(() => videos.create({ prompt: "x", model: "sora-2" })),
    picture: await refusal(() => videosOf(KEY, TEXT_SERVER).create({ prompt: "x", input_reference: picture() })),
    style: await refusal(() => clientOf(KEY).images.generate({ prompt: "x", style: "vivid" })),
    key: await refusal(() => videosOf("wrong").list()),
    retrieve: await refusal(() => videos.retrieve(made)),
    content: await refusal(() => videos.downloadContent(made)),
    delete: await refusal(() => videos.delete(made)),
    failed: await refusal(() => hasty.downloadContent(told.failed.id)),
  };
  console.log(JSON.stringify(told));
}

story();
