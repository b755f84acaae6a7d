//! Belfry's page kit, https://github.com/belfry-push/belfry/blob/main/serviceworker/belfry.js
const MINUTE=6e4,QUESTION_LIMIT=6e4,SUBSCRIBE_LIMIT=3e4,WORKER_LIMIT=1e4,SERVER_LIMIT=1e4,BROWSER_LIMIT=3e3,TRIES=[3e3,5e3,
7e3],OTHERS=1e3,PAUSE=1e3,CHECK_EVERY=360*6e4,RENEW_BEFORE=60*6e4,KEEP_DISMISSED=720*60*6e4,WORDS={unsupported:["This br\
owser cannot receive notifications from websites.","Try a current version of Firefox, Chrome, Edge or Safari."],insecure:[
"Notifications need a secure connection.","Open this page over https."],"needs-install":["On this device, only apps on t\
he Home Screen may notify you.",'Tap Share, then "Add to Home Screen", and open it from there (iOS 16.4 or later).'],"pr\
ivate-mode":["A private window cannot receive notifications.","Open this page in a normal window."],denied:["Notificatio\
ns from this site are blocked.","Allow them in the browser's settings for this site, then come back."],dismissed:["The b\
rowser's question was closed without an answer.",'Ask again, and choose "Allow".'],worker:["The site's service worker co\
uld not be started.","Reload the page and try again."],"push-service":["The browser could not register with its push ser\
vice.","Check the connection and try again; some networks and some settings block it."],timeout:["The browser's push ser\
vice did not answer.","Try again in a moment."],unreachable:["The server could not be reached.","Check the connection an\
d try again."],busy:["The server is busy.","Try again in a moment."],refused:["The server refused.","Reload the page and\
 try again."],storage:["This browser keeps no data for this site.","Allow site data, or leave private browsing, and try \
again."],"user-token":["The site could not say who you are.","Reload the page, sign in again, and try again."],"not-subs\
cribed":["This browser is not registered.","Turn notifications on first."]};export class BelfryError extends Error{constructor(code,more={}){
const[what,wayOut]=WORDS[code];super(more.message||what,{cause:more.cause}),this.name="BelfryError",this.code=code,this.
hint=more.hint||wayOut,this.status=more.status??0,this.problem=more.problem??"",this.retryAfter=more.retryAfter??null}}export function connect({
server=home(),worker="/sw.js",scope,userToken}={}){return new Belfry(server,worker,scope,userToken)}function home(){if(!/^https?:/.
test(import.meta.url))throw new TypeError("belfry: say where the server is: connect({ server: 'https://…' })");return new URL(
".",import.meta.url).href}export class Belfry extends EventTarget{#server;#worker;#scope;#userToken;#state="off";#reason="";#device=null;#turn=Promise.
resolve();#tabs=null;constructor(server,worker,scope,userToken){super(),this.#server=new URL(server,document.baseURI).href.
replace(/\/+$/,""),this.#worker=new URL(worker,document.baseURI).href,this.#scope=scope===void 0?new URL(".",this.#worker).
href:new URL(scope,document.baseURI).href,this.#userToken=userToken,this.#inTurn(()=>this.#check(!1)).catch(()=>{}).then(
sayGoodbye),this.#watchPermission()}get state(){return this.#state}get reason(){return this.#reason}get channels(){return[
...this.#device?.channels??[]]}get device(){return this.#device?.id??null}async subscribe(channels=[]){const chosen=names(
channels);await this.#permission();const left=clock(3e4);await this.#inTurn(async()=>{await this.#enrol(chosen,left),checked(),
this.#become("on")})}async setChannels(channels){const chosen=names(channels);await this.#inTurn(async()=>{const device=await this.#load();
if(!device||this.#state==="off")throw new BelfryError("not-subscribed");const user=await this.#user(),answer=await call(
device.server,"PUT",`/v1/subscriptions/${device.id}`,{secret:device.secret,user,body:{channels:chosen,...signedOut(user)}});
if(lost(answer))await this.#enrol(chosen,clock(3e4));else if(answer.status===200)await this.#keep({...device,channels:listed(
answer,chosen)},device);else throw failure(answer);this.#become("on")})}async unsubscribe(){await this.#inTurn(async()=>{
const device=await this.#load();device&&await leave(device);const forgotten=await edit("device",()=>{}),subscription=await this.#subscription();
if(subscription&&await end(subscription),!forgotten)throw new BelfryError("storage");this.#device=null,this.#become("off")})}async reconcile(){
return this.#askAnew(),this.#inTurn(()=>this.#check(!0))}listen(channels,onMessage,{onReset}={}){const chosen=names(channels),
wrong=chosen.find(name=>!/^[a-z0-9][a-z0-9._-]{0,63}$/.test(name)||name.startsWith("private-")&&!this.#userToken);if(wrong!==
void 0)throw new TypeError(`belfry: nobody can listen to a channel named ${JSON.stringify(wrong)}`);this.#tabs??=live().
then(({Tabs})=>new Tabs(globalThis,this.#server,this,()=>this.#proof(),id=>this.#seen(id),this.#userToken&&(async()=>await this.#user()??
"")));let stopped=!1,stop=()=>{stopped=!0};return this.#tabs.then(tabs=>{stopped||(stop=tabs.join(chosen,onMessage,onReset))}),
()=>stop()}#askAnew(){if(!this.#userToken||(this.#tabs?.then(tabs=>tabs.askAnew()),!globalThis.BroadcastChannel))return;
const bus=new BroadcastChannel(`belfry.live ${this.#server}`);bus.postMessage({user:!0}),bus.close()}async#proof(){const device=await stored(
"device");return device?.server===this.#server?{id:device.id,secret:device.secret}:null}async#user(){const ask=this.#userToken;
if(!ask)return null;try{const token=await within(1e4,(async()=>ask())(),void 0);if(token===null)return"";if(typeof token==
"string"&&/^[\w.-]*$/.test(token))return token}catch(cause){throw new BelfryError("user-token",{cause})}throw new BelfryError(
"user-token")}#seen(id){this.#device&&edit("seen",list=>noted(list,id))}async#check(thorough){const wall=obstacle();if(wall)
return this.#become(wall);const device=await this.#load();if(Notification.permission!=="granted")return this.#become(await dismissedLately()?
"dismissed":"off");if(!device)return this.#become("off");try{return await this.#isWhole(device)&&(this.#become("on"),!thorough&&
checkedLately())?"on":(await this.#enrol(null,clock(3e4)),checked(),this.#become("on"))}catch(err){return err instanceof
BelfryError&&["unreachable","busy","user-token"].includes(err.code)&&await this.#isWhole(device)?this.#become("on"):this.#become(
"stale",err instanceof BelfryError?`${err.message} ${err.hint}`:String(err))}}async#isWhole(device){if(device.stale||device.
server!==this.#server)return!1;const subscription=await this.#subscription();return subscription!==null&&await digest(subscription.
endpoint)===device.hash}async#enrol(channels,left){const[registration,config,user]=await Promise.all([activeWorker(this.#worker,
this.#scope,left(1e4)),getConfig(this.#server,left(1e4)),this.#user()]),before=await this.#load(),known=before?.server===
this.#server?before:null;for(let again=!1;;again=!0){const{subscription,made}=await subscribed(registration.pushManager,
config.key,left);try{const device=await announce(this.#server,known,user,subscription,config.keyId,channels??before?.channels??
[],channels!==null,left);await this.#keep(device,before),before&&before.server!==device.server&&await leave(before);return}catch(err){
if(err instanceof BelfryError&&err.status===409&&!again){await end(subscription);continue}throw made&&!before&&await end(
subscription),err}}}async#permission(){const wall=obstacle();if(wall)throw this.#become(wall),new BelfryError(wall);if(Notification.
permission==="granted")return;await within(6e4,Notification.requestPermission(),"default").catch(()=>"default");const answer=Notification.
permission;if(await edit("dismissed",()=>answer==="default"?Date.now():void 0),answer==="granted")return;const no=answer===
"denied"?"denied":"dismissed";throw this.#become(no),new BelfryError(no)}async#watchPermission(){try{(await navigator.permissions.
query({name:"notifications"})).addEventListener("change",()=>this.#inTurn(()=>this.#check(!1)).catch(()=>{}))}catch{}}async#subscription(){
return within(3e3,(async()=>{const registration=await navigator.serviceWorker.getRegistration(this.#scope);return registration?.
scope===this.#scope?registration.pushManager.getSubscription():null})().catch(()=>null),null)}async#load(){return this.#device=
await stored("device"),this.#device}async#keep(device,before){if(!await edit("device",()=>device))throw device.secret!==
before?.secret&&await leave(device),new BelfryError("storage");this.#device=device}#become(state,reason=state in WORDS?WORDS[state].
join(" "):""){return this.#state=state,this.#reason=reason,this.dispatchEvent(new Event("state")),state}#inTurn(work){const turn=this.#turn.
then(()=>alone(navigator,work)).catch(cause=>{throw cause instanceof BelfryError?cause:new BelfryError("push-service",{cause})});
return this.#turn=turn.catch(()=>{}),turn}}function obstacle(){if(!globalThis.isSecureContext)return"insecure";const worker="\
serviceWorker"in navigator,push="PushManager"in globalThis,notification="Notification"in globalThis;return!worker||!push||
!notification?isTabOnIOS()?"needs-install":!worker&&push?"private-mode":"unsupported":Notification.permission==="denied"?
"denied":null}function isTabOnIOS(){const ios=/iPhone|iPad|iPod/.test(navigator.userAgent)||/Macintosh/.test(navigator.userAgent)&&
navigator.maxTouchPoints>1,installed=navigator.standalone===!0||matchMedia("(display-mode: standalone)").matches;return ios&&
!installed}async function live(){for(let n=0;;n++)try{return await(n===0?import("./live.js"):import(`./live.js?${n}`))}catch{
await pause(Math.random()*Math.min(6e4/2,1e3*2**n))}}function names(channels){if(!Array.isArray(channels)||channels.some(
name=>typeof name!="string"))throw new TypeError("belfry: channels are a list of names, such as ['news']");return[...new Set(
channels)].sort()}function clock(ms){const end2=Date.now()+ms;return limit=>Math.max(0,Math.min(limit,end2-Date.now()))}
async function activeWorker(url,scope,limit){const start=async()=>{const registration=await navigator.serviceWorker.register(
url,{scope,updateViaCache:"none"});return registration.active||await activation(registration),registration};try{const registration=await within(
limit,start(),null);if(registration)return registration}catch(cause){throw new BelfryError("worker",{message:`The site's\
 service worker ${url} could not be started: ${told(cause)}`,cause})}throw new BelfryError("worker",{message:`The site's\
 service worker ${url} did not start in time.`})}function activation(registration){return new Promise((resolve,reject)=>{
const starting=registration.installing??registration.waiting,look=()=>{registration.active?resolve():(!starting||starting.
state==="redundant")&&reject(new Error("it was not installed"))};starting?.addEventListener("statechange",look),look()})}
async function getConfig(server,limit){const answer=await call(server,"GET","/v1/config",{limit});if(answer.status!==200)
throw failure(answer);const{vapidPublicKey,keyId}=answer.body;if(typeof keyId=="string"&&/^[\w-]{87}$/.test(vapidPublicKey))
return{key:octets(vapidPublicKey),keyId};throw new BelfryError("refused",{message:"The server did not say its key.",status:answer.
status})}async function subscribed(manager,key,left){const old=await within(left(3e3),manager.getSubscription(),null),ending=old?.
expirationTime&&old.expirationTime<Date.now()+RENEW_BEFORE;return old&&sameKey(old,key)&&!ending?{subscription:old,made:!1}:
(old&&await end(old),{subscription:await subscribe(manager,key,left),made:!0})}async function subscribe(manager,key,left){
const tries=[],failed=new Set;let cause;for(const limit of TRIES){const until=clock(left(limit));try{const asked=manager.
subscribe({userVisibleOnly:!0,applicationServerKey:key});tries.push(asked),asked.catch(()=>failed.add(asked));const subscription=await within(
until(limit),Promise.race(tries.filter(one=>!failed.has(one))),null);if(subscription)return tries.length===1?subscription:
await lasting(manager,tries,subscription)}catch(err){if(cause=err,named(err,"NotAllowedError"))throw new BelfryError(Notification.
permission==="denied"?"denied":"push-service",{cause});const other=named(err,"InvalidStateError")&&await within(until(3e3),
manager.getSubscription(),null);other?await end(other):await pause(until(PAUSE))}}throw cause?new BelfryError("push-serv\
ice",{cause}):new BelfryError("timeout")}async function lasting(manager,tries,answered){return await within(OTHERS,Promise.
allSettled(tries),null),await within(3e3,manager.getSubscription(),null)??answered}async function end(subscription){await within(
3e3,subscription.unsubscribe().catch(()=>!1),!1)}async function announce(server,known,user,subscription,keyId,channels,chosen,left){
const hash=await digest(subscription.endpoint),about={subscription:subscription.toJSON(),keyId,...whereabouts()},secret=known?.
secret;if(known){const body={...about,...chosen&&{channels},...signedOut(user)},answer2=await call(server,"PUT",`/v1/sub\
scriptions/${known.id}`,{secret,user,body,limit:left(1e4)});if(answer2.status===200)return{...known,server,hash,keyId,channels:listed(
answer2,channels),stale:!1};if(!lost(answer2))throw failure(answer2)}const opened=chosen?channels:channels.filter(name=>!name.
startsWith("private-")||opens(user).includes(name)),answer=await call(server,"POST","/v1/subscriptions",{secret,user,body:{
...about,channels:opened},limit:left(1e4)}),{id,secret:given=secret}=answer.body;if(answer.status!==201&&answer.status!==
200)throw failure(answer);if(typeof id!="string"||typeof given!="string")throw new BelfryError("refused",{message:"The s\
erver did not say who we are.",status:answer.status});return{id,secret:given,server,hash,keyId,channels:listed(answer,opened),
stale:!1}}function lost(answer){return answer.status===401&&answer.body.code!=="user-token"}function opens(token){try{const{
channels}=JSON.parse(new TextDecoder().decode(octets((token??"").split(".")[1])));return Array.isArray(channels)?channels:
[]}catch{return[]}}function signedOut(user){return user===""?{user:null}:{}}function whereabouts(){const locale=navigator.
language,{timeZone}=Intl.DateTimeFormat().resolvedOptions();return{.../^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,8}$/.test(locale)&&
{locale},.../^[A-Za-z0-9_+-]{1,32}(\/[A-Za-z0-9_+-]{1,32}){0,3}$/.test(timeZone)&&{timeZone}}}async function leave({server,
id,secret}){await removed({server,id,secret})||await edit("leaving",(list=[])=>[...list,{server,id,secret}])}async function sayGoodbye(){
for(const device of await stored("leaving")??[]){if(!await removed(device))return;await edit("leaving",(list=[])=>{const rest=list.
filter(other=>other.id!==device.id);return rest.length>0?rest:void 0})}}async function removed({server,id,secret}){try{const{
status}=await call(server,"DELETE",`/v1/subscriptions/${id}`,{secret});return status<500&&status!==429}catch{return!1}}async function call(server,method,path,{
secret,user,body,limit=1e4}={}){const headers={};body!==void 0&&(headers["Content-Type"]="application/json"),secret&&(headers.
Authorization=`Device ${secret}`),user&&(headers["Belfry-User"]=user);const hangUp=new AbortController,talk=async()=>{const answer=await fetch(
server+path,{method,headers,body:body===void 0?void 0:JSON.stringify(body),cache:"no-store",credentials:"omit",redirect:"\
error",signal:hangUp.signal}),said=await answer.json().catch(()=>null);return{status:answer.status,retryAfter:seconds(answer.
headers.get("Retry-After")),body:said??{}}};try{const answer=await within(limit,talk(),null);if(answer)return answer}catch(cause){
throw new BelfryError("unreachable",{cause})}finally{hangUp.abort()}throw new BelfryError("unreachable",{message:"The se\
rver did not answer in time."})}function failure({status,retryAfter,body}){const problem=typeof body.code=="string"?body.
code:"";if(status===429||status===503){const hint2=retryAfter?`Try again in ${retryAfter} seconds.`:void 0;return new BelfryError(
"busy",{status,problem,retryAfter,hint:hint2})}const said=typeof body.detail=="string"&&body.detail?body.detail:`it answ\
ered ${status}`,hint=typeof body.hint=="string"?body.hint:void 0;return new BelfryError("refused",{message:`The server r\
efused: ${said}`,status,problem,retryAfter,hint})}function seconds(retryAfter){if(!retryAfter)return null;const n=/^\d+$/.
test(retryAfter)?Number(retryAfter):Math.ceil((Date.parse(retryAfter)-Date.now())/1e3);return Number.isFinite(n)?Math.max(
0,n):null}function listed({body},sent){return Array.isArray(body.channels)?body.channels.map(String):sent}async function stored(name){
return await within(3e3,load(indexedDB,name).catch(()=>null),null)??null}async function edit(name,work){return within(3e3,
change(indexedDB,name,work).then(()=>!0,()=>!1),!1)}async function dismissedLately(){const at=await stored("dismissed");
return typeof at=="number"&&Date.now()-at<KEEP_DISMISSED}const CHECKED="belfry.checked";function checkedLately(){try{const age=Date.
now()-Number(sessionStorage.getItem(CHECKED));return age>=0&&age<CHECK_EVERY}catch{return!1}}function checked(){try{sessionStorage.
setItem(CHECKED,String(Date.now()))}catch{}}function named(err,name){return err instanceof Error&&err.name===name}function told(err){
return err instanceof Error?err.message:String(err)}function pause(ms){return new Promise(resolve=>{setTimeout(resolve,ms)})}
function storage(factory,mode,work){return new Promise((resolve,reject)=>{const opening=factory.open("belfry",1);opening.
onupgradeneeded=()=>opening.result.createObjectStore("kit"),opening.onerror=()=>reject(opening.error),opening.onsuccess=
()=>{const db=opening.result;try{let result;const tx=db.transaction("kit",mode);tx.oncomplete=()=>resolve(result),tx.onabort=
()=>reject(tx.error),work(tx.objectStore("kit"),value=>{result=value})}catch(err){reject(err)}finally{db.close()}}})}async function load(factory,name){
return storage(factory,"readonly",(store,give)=>{const got=store.get(name);got.onsuccess=()=>give(got.result)})}async function change(factory,name,edit2){
await storage(factory,"readwrite",store=>{const got=store.get(name);got.onsuccess=()=>{const value=edit2(got.result);value===
void 0?store.delete(name):store.put(value,name)}})}function noted(list,id){return[...fresh(list).filter(([known])=>known!==
id),[id,Date.now()]].slice(-2e3)}function fresh(list){const since=Date.now()-6048e5;return Array.isArray(list)?list.filter(
entry=>Array.isArray(entry)&&entry[1]>since):[]}function within(ms,work,late){let timer;const limit=new Promise(resolve=>{
timer=setTimeout(resolve,ms,late)});return Promise.race([work,limit]).finally(()=>clearTimeout(timer))}async function alone(navigator2,work){
const patience=new AbortController,timer=setTimeout(()=>patience.abort(),1e4);let begun=!1;const begin=()=>(begun=!0,clearTimeout(
timer),work());try{if(navigator2.locks)return await navigator2.locks.request("belfry",{signal:patience.signal},begin)}catch(err){
if(begun)throw err}return begin()}async function digest(endpoint){const sum=await crypto.subtle.digest("SHA-256",new TextEncoder().
encode(endpoint));return btoa(String.fromCharCode(...new Uint8Array(sum)))}function octets(base64url){const binary=atob(
base64url.replaceAll("-","+").replaceAll("_","/"));return Uint8Array.from(binary,c=>c.charCodeAt(0))}function sameKey(subscription,key){
const made=subscription.options?.applicationServerKey;return!made||made.byteLength!==key.byteLength?!1:new Uint8Array(made).
every((octet,i)=>octet===key[i])}
